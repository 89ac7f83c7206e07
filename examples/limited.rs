//! A tool that each caller may call twice, and then once in ten seconds.
//!
//! `cargo run --example limited --features limited` serves it over stdio.
//!
//! Call `search` three times from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command. The third
//! answer is an error that says when to try again.

use std::time::Duration;

use mcp_patterns::limited::{Concurrency, Per, Rate};
use mcp_patterns::{LimitedTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Library;

#[server(name = "library", version = "1.0.0")]
impl Library {
    /// Finds books. The catalogue behind it charges for each search.
    #[tool(read_only = true)]
    async fn search(&self, words: String) -> McpResult<String> {
        Ok(format!("Three books about {words}"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = LimitedTool::new()
        .with_timeout(Duration::from_secs(30))
        .with_rate(Per::Principal, Rate::per_minute(6).with_burst(2))
        .with_concurrency(Per::Tool, Concurrency::new(8).with_queue(32));
    limits.try_layer(Library)?.run_stdio().await?;
    Ok(())
}
