//! Counters of all clients and of one session, as a server of the official SDK, `rmcp`. Run it with
//! `cargo run --example rmcp_counter --features full`, or from an MCP client as a stdio server.
//!
//! Paste these lines one at a time, each after the answer to the one before. Lines that arrive together run concurrently:
//!
//! ```text
//! {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"me","version":"1"}}}
//! {"jsonrpc":"2.0","method":"notifications/initialized"}
//! {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"increment","arguments":{"name":"tea","idempotency_key":"a"}}}
//! {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"increment","arguments":{"name":"tea","idempotency_key":"a"}}}
//! {"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"increment_mine","arguments":{"name":""}}}
//! ```
//!
//! Both calls with the key answer 1, and count once. The last one is rejected: a name has 1 to 100 characters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::rmcp_server::Failed;
use mcp_patterns::session::Session;
use mcp_patterns::{IdempotentTool, RmcpServer, SessionStore, TryLayer, ValidatedTool};
use rmcp::handler::server::{router::tool::ToolRouter, wrapper::Parameters};
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router, transport::stdio};

#[derive(Clone)]
struct Counter {
    counts: Arc<Mutex<HashMap<String, u64>>>,
    tool_router: ToolRouter<Self>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Named {
    #[schemars(length(min = 1, max = 100))]
    name: String,
}

#[tool_router]
impl Counter {
    #[tool(description = "Adds one to a counter that all clients share")]
    fn increment(&self, Parameters(Named { name }): Parameters<Named>) -> String {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name).or_default();
        *count += 1;
        count.to_string()
    }

    #[tool(description = "Adds one to a counter of this session")]
    async fn increment_mine(&self, Parameters(Named { name }): Parameters<Named>) -> Result<String, Failed> {
        let session = Session::current()?;
        let count = session.update(&name, |count: &mut u64| {
            *count += 1;
            *count
        });
        Ok(count.await?.to_string())
    }
}

#[tool_handler(router = self.tool_router, name = "counter", version = "1.0.0")]
impl ServerHandler for Counter {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counter = Counter { counts: Arc::default(), tool_router: Counter::tool_router() };
    let layers = (
        ValidatedTool::new(),
        SessionStore::in_memory().only(["increment_mine"]),
        IdempotentTool::new(MemoryBackend::new()).only(["increment"]),
    );
    let server = layers.try_layer(RmcpServer::try_new(counter)?)?;
    server.serve(stdio()).await?.waiting().await?;
    Ok(())
}
