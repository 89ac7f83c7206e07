//! A server that writes one line of JSON for each call: who called what, and how it ended.
//!
//! `cargo run --example audit --features audit` serves it over stdio. The lines are on stderr.
//!
//! Call `send` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command: once to `Ada`, and once to
//! `nowhere`. The lines have the receiver of the letter, but not its text.

use std::time::Duration;

use mcp_patterns::audit::{Buffered, JsonLines};
use mcp_patterns::{AuditTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Post;

#[server(name = "post", version = "1.0.0")]
impl Post {
    /// Sends a letter.
    #[tool]
    async fn send(&self, to: String, text: String) -> McpResult<String> {
        if to == "nowhere" {
            return Err(McpError::resource_not_found("there is no such address"));
        }
        Ok(format!("A letter of {} characters to {to}", text.len()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lines = Buffered::new(JsonLines::new(tokio::io::stderr()));
    let audit = AuditTool::new().with_arguments("send", ["/to"]).with_buffer(lines);
    let handle = audit.handle();
    audit.try_layer(Post)?.run_stdio().await?;
    // The events of the last calls, if the server was stopped without telling its layers.
    tokio::time::timeout(Duration::from_secs(5), handle.flush()).await?;
    Ok(())
}
