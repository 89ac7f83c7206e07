//! A tool that fails twice is called three times.
//!
//! `cargo run --example retry --features retry` serves it over stdio.
//!
//! Call `rate` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command. The result is a
//! success, and its `_meta` has `"mcp-patterns/attempts": 3`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mcp_patterns::{RetryTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone, Default)]
struct Exchange {
    requests: Arc<AtomicU32>,
}

#[server(name = "exchange", version = "1.0.0")]
impl Exchange {
    /// Reads the exchange rate of a currency. Two requests of three fail.
    #[tool(read_only = true)]
    async fn rate(&self, currency: String) -> McpResult<String> {
        match self.requests.fetch_add(1, Ordering::Relaxed) % 3 {
            2 => Ok(format!("1 EUR = 1.08 {currency}")),
            _ => Err(McpError::unavailable("The exchange is busy")),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let retry = RetryTool::new().on_retry(|event| eprintln!("{} again in {:?}", event.tool, event.delay));
    retry.try_layer(Exchange::default())?.run_stdio().await?;
    Ok(())
}
