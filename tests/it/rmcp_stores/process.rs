//! A replica in a process of its own, which a test can kill.

use std::env;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fleet::{Kept, LONGEST, Memory};
use super::server::Tool;
use super::stores::Place;

/// The environment variables with the name of a replica, and with the place of its stores.
const NAME: &str = "MCP_PATTERNS_RMCP_REPLICA";
const PLACE: &str = "MCP_PATTERNS_RMCP_STORES";

/// What a replica writes: its port, and the begin of a slow tool.
const PORT: &str = "listening on port ";
const BEGUN: &str = "the tool has begun";

/// The body of a process that a test starts; without it, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica() {
    let (Ok(name), Ok(place)) = (env::var(NAME), env::var(PLACE)) else { return };
    let tool = Tool::new(|| println!("\n{BEGUN}"));
    let replica = Memory::start(name, &tool, Kept::All(&Place::parse(&place))).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("\n{PORT}{}", listener.local_addr().expect("an address").port());
    let app = replica.app();
    // The test holds the other end: without it, nobody would end this process.
    let orphaned = async { tokio::io::stdin().read_to_end(&mut Vec::new()).await };
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.expect("it serves"),
        _ = orphaned => {}
    }
}

/// A process that runs [`one_replica`].
pub(super) struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts a process, and has `tool` begin where its slow tool does.
    pub(super) async fn start(name: &str, place: &Place, tool: &Arc<Tool>) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "rmcp_stores::process::one_replica", "--nocapture"])
            .env(NAME, name)
            .env(PLACE, place.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (listens, port) = oneshot::channel();
        let tool = Arc::clone(tool);
        tokio::spawn(async move {
            let mut listens = Some(listens);
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, port)) = line.split_once(PORT)
                    && let Some(listens) = listens.take()
                {
                    let _ = listens.send(port.to_owned());
                } else if line.contains(BEGUN) {
                    tool.begin();
                }
            }
        });
        let port = timeout(LONGEST, port).await.expect("it starts").expect("it listens");
        Self { child, url: format!("http://127.0.0.1:{port}/mcp") }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Kills the process with `SIGKILL`.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.expect("it is killed");
    }
}
