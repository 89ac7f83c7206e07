//! A basket for each session. Run it with `cargo run --example session --features session`, or from an MCP client as a
//! stdio server.
//!
//! Paste these lines one at a time, each after the answer to the one before. Lines that arrive together run concurrently:
//!
//! ```text
//! {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"me","version":"1"}}}
//! {"jsonrpc":"2.0","method":"notifications/initialized"}
//! {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"item":"tea"}}}
//! {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"basket","arguments":{}}}
//! ```
//!
//! `basket` returns `tea`. A second process has its own basket: with `SessionStore::redis(..)` and
//! `SessionMode::Principal`, a user has the same basket on every replica.

use std::time::Duration;

use mcp_patterns::{SessionStore, TryLayer, session::Session};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Shop;

#[server(name = "shop", version = "1.0.0")]
impl Shop {
    /// Puts an item into the basket.
    #[tool]
    async fn add(&self, item: String) -> McpResult<String> {
        let session = Session::current()?;
        let count = session
            .update("basket", |basket: &mut Vec<String>| {
                basket.push(item.clone());
                basket.len()
            })
            .await?;
        Ok(format!("{count} items"))
    }

    /// Lists the basket.
    #[tool(read_only = true)]
    async fn basket(&self) -> McpResult<String> {
        let basket: Option<Vec<String>> = Session::current()?.get("basket").await?;
        Ok(basket.unwrap_or_default().join(", "))
    }

    /// Ends the session and deletes the basket.
    #[tool(destructive = true)]
    async fn leave(&self) -> McpResult<String> {
        Session::current()?.end().await?;
        Ok("Goodbye".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = SessionStore::in_memory().with_idle_timeout(Duration::from_secs(30 * 60));
    sessions.try_layer(Shop)?.run_stdio().await?;
    Ok(())
}
