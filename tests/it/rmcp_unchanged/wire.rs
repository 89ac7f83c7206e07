//! A client that reads and writes the messages themselves.

use std::time::Duration;

use rmcp::{ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// How a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// With a handshake.
    Initialize,
    /// Without one, in the version 2026-07-28.
    Discover,
}

/// A connection to a server.
pub(super) struct Wire {
    lifecycle: Lifecycle,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    next: u64,
}

fn capabilities() -> Value {
    json!({
        "elicitation": {},
        "sampling": {},
        "roots": {},
        "extensions": {"io.modelcontextprotocol/tasks": {}},
    })
}

impl Wire {
    pub(super) async fn connect(server: impl ServerHandler, lifecycle: Lifecycle) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        let (reader, writer) = tokio::io::split(near);
        let mut wire = Self { lifecycle, lines: BufReader::new(reader).lines(), writer, next: 0 };
        if lifecycle == Lifecycle::Initialize {
            let params = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": capabilities(),
                "clientInfo": {"name": "wire", "version": "1"},
            });
            wire.ask(json!({"method": "initialize", "params": params})).await;
            wire.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        } else {
            wire.ask(json!({"method": "server/discover"})).await;
        }
        wire
    }

    async fn send(&mut self, message: Value) {
        self.writer.write_all(format!("{message}\n").as_bytes()).await.expect("a connection");
    }

    /// Sends a request, answers questions, and returns all messages until a while after the answer: those of one method in their order.
    pub(super) async fn ask(&mut self, mut request: Value) -> Vec<Value> {
        let id = self.next;
        self.next += 1;
        request["jsonrpc"] = "2.0".into();
        request["id"] = id.into();
        if self.lifecycle == Lifecycle::Discover {
            let meta = &mut request["params"]["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "wire", "version": "1"});
            meta["io.modelcontextprotocol/clientCapabilities"] = capabilities();
        }
        self.send(request).await;
        let (mut heard, mut patience) = (Vec::new(), Duration::from_secs(20));
        while let Ok(line) = timeout(patience, self.lines.next_line()).await {
            let line = line.expect("a connection").expect("the server is there");
            let mut message: Value = serde_json::from_str(&line).expect("JSON");
            match (message.get("method").and_then(Value::as_str), message.get("id").cloned()) {
                (Some(method), Some(question)) => {
                    let answer = json!({"jsonrpc": "2.0", "id": question, "result": answer(method)});
                    self.send(answer).await;
                    // Each end counts its own questions.
                    message["id"] = "a question".into();
                }
                (None, Some(of)) if of == id => patience = Duration::from_millis(100),
                (None, _) => panic!("an answer to nothing: {message}"),
                (Some(_), None) => {}
            }
            without_marks(&mut message);
            heard.push(message);
        }
        // Notifications of different methods may overtake each other.
        heard.sort_by_key(|message| message["method"].as_str().map(str::to_owned));
        heard
    }
}

fn answer(method: &str) -> Value {
    match method {
        "roots/list" => json!({"roots": [{"uri": "file:///home", "name": "home"}]}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "none"})
        }
        "elicitation/create" => json!({"action": "accept", "content": {"name": "Ada"}}),
        _ => json!({}),
    }
}

/// Takes away the entries of `_meta`, and of the data of an error, that layers document.
fn without_marks(message: &mut Value) {
    for part in ["/result/_meta", "/error/data"] {
        if let Some(Value::Object(entries)) = message.pointer_mut(part) {
            entries.retain(|name, _| !name.starts_with("mcp-patterns/"));
        }
    }
    if message.pointer("/result/_meta").is_some_and(|meta| meta == &json!({})) {
        message["result"].as_object_mut().expect("an object").remove("_meta");
    }
    if message.pointer("/error/data").is_some_and(|data| data == &json!({})) {
        message["error"].as_object_mut().expect("an object").remove("data");
    }
}
