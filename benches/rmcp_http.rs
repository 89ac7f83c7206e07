//! The speed of whole servers of rmcp over HTTP: bare, through two layers and through all; and how long a caller waits for a hit.
//!
//! The servers run in one process and take turns, so that a slow moment of the machine affects all of them.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use futures_util::future::join_all;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use plain::{Plain, SLOW};

#[expect(dead_code, reason = "it is what another bench and a test call, too")]
#[path = "../tests/it/rmcp_cost/plain.rs"]
mod plain;

const ROUNDS: usize = 41;
const TURN: Duration = Duration::from_millis(150);

/// How HTTP is spoken.
#[derive(Clone, Copy)]
enum Mode {
    /// With sessions and event streams: the default of rmcp.
    Sessions,
    /// By the protocol 2026-07-28, without sessions, with answers in JSON.
    Stateless,
}

/// A kind of call, at one of the servers.
struct Row {
    name: &'static str,
    clients: Vec<Client>,
    requests: Vec<Vec<u8>>,
}

/// Serves on a runtime of its own, in one thread.
fn serve(server: impl ServerHandler + Clone, mode: Mode) -> (u16, Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let port = runtime.block_on(async {
        let mut config = StreamableHttpServerConfig::default();
        if let Mode::Stateless = mode {
            config = config.with_legacy_session_mode(false).with_json_response(true);
        }
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
        let app = axum::Router::new().nest_service("/mcp", service);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        // Else the end of an event stream waits until the client has acknowledged the event: 40 ms.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option of every socket"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        port
    });
    (port, runtime)
}

/// A connection, and the session that the server gave it.
struct Client {
    stream: BufReader<TcpStream>,
    headers: String,
}

impl Client {
    async fn connect(port: u16, mode: Mode) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it accepts");
        stream.set_nodelay(true).expect("an option of every socket");
        let mut client = Self { stream: BufReader::new(stream), headers: String::new() };
        if let Mode::Sessions = mode {
            let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
            let session = client.post(&client.request(initialize)).await.expect("the server names a session");
            client.headers = format!("mcp-session-id: {session}\r\n");
            client.post(&client.request(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).await;
        }
        client
    }

    fn request(&self, message: &str) -> Vec<u8> {
        let (headers, length) = (&self.headers, message.len());
        format!(
            "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{headers}Content-Length: {length}\r\n\r\n{message}"
        )
        .into()
    }

    /// Writes the request of a call.
    fn call(&mut self, tool: &str, mode: Mode) -> Vec<u8> {
        let meta = match mode {
            Mode::Sessions => "",
            Mode::Stateless => {
                self.headers =
                    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
                r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#
            }
        };
        let params = format!(r#"{{"name":"{tool}","arguments":{{"id":1}}{meta}}}"#);
        self.request(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#))
    }

    /// Posts a request, reads the answer to its end, and returns the session that it names.
    async fn post(&mut self, request: &[u8]) -> Option<String> {
        self.stream.write_all(request).await.expect("the server listens");
        let (mut session, mut length, mut line) = (None, Some(0), String::new());
        self.line(&mut line).await;
        assert!(line.starts_with("HTTP/1.1 20"), "{line}");
        loop {
            self.line(&mut line).await;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name {
                "mcp-session-id" => session = Some(value.to_owned()),
                "content-length" => length = value.parse().ok(),
                "transfer-encoding" => length = None,
                _ => {}
            }
        }
        match length {
            Some(length) => self.skip(length).await,
            None => loop {
                self.line(&mut line).await;
                let length = usize::from_str_radix(&line, 16).expect("the length of a piece");
                self.skip(length + 2).await;
                if length == 0 {
                    break;
                }
            },
        }
        session
    }

    async fn line(&mut self, line: &mut String) {
        line.clear();
        self.stream.read_line(line).await.expect("the server answers");
        line.truncate(line.trim_end().len());
    }

    async fn skip(&mut self, length: usize) {
        self.stream.read_exact(&mut vec![0; length]).await.expect("the server answers");
    }
}

impl Row {
    async fn new(name: &'static str, port: u16, tool: &str, callers: usize, mode: Mode) -> Self {
        let mut clients = join_all((0..callers).map(|_| Client::connect(port, mode))).await;
        let requests = clients.iter_mut().map(|client| client.call(tool, mode)).collect();
        Self { name, clients, requests }
    }

    /// Returns the microseconds of a call, and those of a processor, while each client makes one call after the other.
    async fn turn(&mut self) -> (f64, f64) {
        let (started, used) = (Instant::now(), processor());
        let calls = self.clients.iter_mut().zip(&self.requests).map(|(client, request)| async move {
            let mut calls = 0;
            while started.elapsed() < TURN {
                client.post(request).await;
                calls += 1;
            }
            calls
        });
        let calls = f64::from(join_all(calls).await.iter().sum::<u32>());
        let per_call = |time: Duration| time.as_secs_f64() * 1e6 / calls;
        (per_call(started.elapsed()), per_call(processor().saturating_sub(used)))
    }
}

/// Returns the time that all threads of this process have run.
fn processor() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("this is Linux").flatten();
    let ran = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    ran.sum()
}

/// Lets the rows take turns, and prints the median of each, and of its ratio to the first one within a round.
async fn compare(title: &str, mut rows: Vec<Row>) {
    let mut turns = vec![Vec::with_capacity(ROUNDS); rows.len()];
    for row in &mut rows {
        row.turn().await;
    }
    for _ in 0..ROUNDS {
        for (row, turns) in rows.iter_mut().zip(&mut turns) {
            turns.push(row.turn().await);
        }
    }
    println!("\n{title:<28} {:>10} {:>10} {:>10} {:>10}", "us a call", "speed", "CPU us", "speed");
    for (row, own) in rows.iter().zip(&turns) {
        let of = |part: fn(&(f64, f64)) -> f64| {
            let time = median(own.iter().map(part).collect());
            let speed = median(turns[0].iter().zip(own).map(|(first, own)| part(first) / part(own)).collect());
            format!("{time:>10.1} {speed:>10.3}")
        };
        println!("{:<28} {} {}", row.name, of(|turn| turn.0), of(|turn| turn.1));
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("The speed is the time of the first row in the same round, divided by the time of the row.");
    let clients = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (title, mode) in [("with sessions", Mode::Sessions), ("stateless", Mode::Stateless)] {
        let layers = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let _within = layers.enter();
        let (bare, _bare) = serve(Plain::new(), mode);
        let (two, _two) = serve(plain::two(Plain::new()), mode);
        let (whole, _whole) = serve(plain::whole(Plain::new()), mode);
        clients.block_on(async {
            for callers in [1, 16] {
                let row = |name, port, tool| Row::new(name, port, tool, callers, mode);
                let rows = [
                    row("bare", bare, "plain").await,
                    row("two layers, none acts", two, "plain").await,
                    row("all layers, none acts", whole, "plain").await,
                    row("hit", two, "read").await,
                    row("bare, 1 ms", bare, SLOW).await,
                    row("hit, 1 ms", two, SLOW).await,
                ];
                compare(&format!("{title}, {callers} callers"), rows.into()).await;
            }
        });
    }
}
