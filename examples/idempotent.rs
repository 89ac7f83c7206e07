//! A letter that is sent twice with the same key goes out once.
//!
//! `cargo run --example idempotent --features idempotent` serves it over stdio.
//!
//! Call `send` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command, twice with
//! `{"to": "Ada", "idempotency_key": "a"}`. Both answers are `Letter 1 to Ada`, and the `_meta` of the second one has
//! `"mcp-patterns/idempotency": "replayed"`. With another key, letter 2 goes out. With `"to": "lost"`, it is not
//! known whether the letter went out: each further call with that key says so, and sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{IdempotentTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone, Default)]
struct Post {
    letters: Arc<AtomicU32>,
}

#[server(name = "post", version = "1.0.0")]
impl Post {
    /// Sends a letter.
    #[tool]
    async fn send(&self, to: String) -> McpResult<String> {
        let number = self.letters.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("letter {number} to {to} goes out");
        match to.as_str() {
            "lost" => Err(McpError::timeout("The carrier does not answer")),
            _ => Ok(format!("Letter {number} to {to}")),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The layer adds the argument `idempotency_key` to the schema of the tool, and removes it before the call.
    let idempotent = IdempotentTool::new(MemoryBackend::new())
        .only(["send"])
        .with_idempotency(Idempotency::new().required_for(["send"]));
    idempotent.try_layer(Post::default())?.run_stdio().await?;
    Ok(())
}
