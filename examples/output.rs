//! A tool that answers with more than a model reads: the model gets the beginning, and a link to all of it.
//!
//! `cargo run --example output --features output` serves it over stdio.
//!
//! Call `search` with `{"words": "tea", "limit": 5000}` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that
//! command, and read the resource that the answer links to.

use std::time::Duration;

use mcp_patterns::output::Spill;
use mcp_patterns::{OutputTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Library;

#[server(name = "library", version = "1.0.0")]
impl Library {
    /// Finds books.
    #[tool(read_only = true)]
    async fn search(&self, words: String, limit: u32) -> McpResult<String> {
        Ok((1..=limit).map(|number| format!("{number}. A book about {words}, borrowed by ada@example.com\n")).collect())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = OutputTool::new()
        .with_max_bytes(20_000)
        .with_hint("search", "pass a smaller `limit`")
        .with_redaction(|_tool, text| text.replace("ada@example.com", "a reader").into())
        .with_spill(Spill::new().with_ttl(Duration::from_secs(600)));
    output.try_layer(Library)?.run_stdio().await?;
    Ok(())
}
