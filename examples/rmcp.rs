//! A server of the official SDK, `rmcp`, with layers. Run it with `cargo run --example rmcp --features full`, or
//! from an MCP client as a stdio server.
//!
//! Paste these lines one at a time, each after the answer to the one before. Lines that arrive together run concurrently:
//!
//! ```text
//! {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"me","version":"1"}}}
//! {"jsonrpc":"2.0","method":"notifications/initialized"}
//! {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"weather","arguments":{"city":"Paris"}}}
//! {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"weather","arguments":{"city":"Paris"}}}
//! ```
//!
//! The service fails at first, and is called again. The second answer has `"status": "hit"` in its `_meta`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mcp_patterns::rmcp_server::{Failed, McpError};
use mcp_patterns::{CachedTool, RetryTool, RmcpServer, TryLayer};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router, transport::stdio};

#[derive(Clone)]
struct Weather {
    calls: Arc<AtomicU32>,
    tool_router: ToolRouter<Self>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Place {
    city: String,
}

#[tool_router]
impl Weather {
    #[tool(description = "Reads the weather of a city", annotations(read_only_hint = true))]
    async fn weather(&self, Parameters(Place { city }): Parameters<Place>) -> Result<String, Failed> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Failed(McpError::unavailable("The weather service is down"))),
            _ => Ok(format!("Sunny in {city}")),
        }
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Weather {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weather = RmcpServer::try_new(Weather { calls: Arc::default(), tool_router: Weather::tool_router() })?;
    let server = (CachedTool::new(), RetryTool::new()).try_layer(weather)?;
    server.serve(stdio()).await?.waiting().await?;
    Ok(())
}
