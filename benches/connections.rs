//! The memory of a server while thousands of clients are connected over HTTP, and after they have left: bare and
//! through all layers.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench connections`. With `LD_PRELOAD` it shows the same with another allocator.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::env;
use std::io::{BufRead, BufReader as Lines};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::sleep;
use turbomcp::{McpHandler, ServerBuilder, ServerConfig};

#[expect(dead_code, reason = "it is what tests and other benches call, too")]
#[path = "../tests/it/whole/shop.rs"]
mod shop;

const CONNECTIONS: usize = 5_000;
const ROUNDS: usize = 4;

/// How many clients connect at the same moment.
const AT_ONCE: usize = 100;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next().as_deref()) {
        (Some("serve"), Some("bare")) => runtime.block_on(serve(shop::Shop)),
        (Some("serve"), Some("whole")) => runtime.block_on(async {
            let pool = shop::database().await.expect("a database in memory");
            serve(shop::whole(&pool)).await;
        }),
        _ => {
            println!("MB of a process   start{:>26}", "connected / gone, by round");
            for (stack, tool) in [("bare", "ring"), ("whole", "ring"), ("whole", "remember")] {
                runtime.block_on(measure(stack, tool));
            }
        }
    }
}

async fn serve(server: impl McpHandler) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    println!("{}", listener.local_addr().expect("it is bound").port());
    let config = ServerConfig::builder().max_http_sessions(CONNECTIONS * ROUNDS).build();
    let app = ServerBuilder::new(server).with_config(config).into_axum_router();
    axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>())
        .await
        .expect("it serves until it is killed");
}

/// A process that serves. It is killed when dropped.
struct Server(Child);

impl Server {
    /// Returns its resident memory, in megabytes.
    fn megabytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("this is Linux");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before, which is no error here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(stack: &str, tool: &str) {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["serve", stack])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    Lines::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says its port");
    let (server, port) = (Server(child), line.trim().parse().expect("a port"));
    print!("{stack:<6} {tool:<10} {:>5}", server.megabytes());
    for _ in 0..ROUNDS {
        let mut connections = Vec::with_capacity(CONNECTIONS);
        while connections.len() < CONNECTIONS {
            connections.extend(join_all((0..AT_ONCE).map(|_| connect(port, tool))).await);
        }
        print!(" {:>5}", server.megabytes());
        drop(connections);
        // The server handles the ends one after the other.
        sleep(Duration::from_secs(2)).await;
        print!(" / {:<4}", server.megabytes());
    }
    println!();
}

/// Connects a client, which calls a tool once and stays.
async fn connect(port: u16, tool: &str) -> TcpStream {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.expect("it accepts"));
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
    let session = post(&mut stream, "", initialize).await.expect("the server names a session");
    let header = format!("mcp-session-id: {session}\r\n");
    post(&mut stream, &header, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let args = shop::args(tool, 1);
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{args}}}}}"#);
    post(&mut stream, &header, &call).await;
    stream.into_inner()
}

/// Posts a message, reads the answer to its end, and returns the session that it names.
async fn post(stream: &mut BufReader<TcpStream>, headers: &str, message: &str) -> Option<String> {
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{message}",
        message.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the server listens");
    let (mut session, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("the server answers");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line == "\r\n" {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "mcp-session-id" => session = Some(value.to_owned()),
            "content-length" => length = value.parse().expect("a number"),
            "transfer-encoding" => panic!("an answer in pieces is not expected"),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.expect("the server answers");
    session
}
