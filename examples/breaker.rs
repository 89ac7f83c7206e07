//! A tool whose service is down at first: after five failures, calls are refused at once, until a probe succeeds.
//!
//! `cargo run --example breaker --features breaker` serves it over stdio.
//!
//! Call `get_rate` six times from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command. The sixth
//! answer comes from the breaker. Half a second later, a call is a probe, and the service answers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_patterns::{BreakerTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone, Default)]
struct Bank {
    calls: Arc<AtomicU32>,
}

#[server(name = "bank", version = "1.0.0")]
impl Bank {
    /// Returns the rate of a currency. The service behind it fails five times.
    #[tool(read_only = true)]
    async fn get_rate(&self, currency: String) -> McpResult<String> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0..5 => Err(McpError::unavailable("The service does not answer")),
            calls => Ok(format!("One {currency} is 1.08 dollars (call {})", calls + 1)),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = BreakerTool::new().with_pause(Duration::from_millis(500));
    breaker.try_layer(Bank::default())?.run_stdio().await?;
    Ok(())
}
