//! A server whose answers are cached for a minute. Run it with `cargo run --example cached --features cached`, or
//! from an MCP client as a stdio server.
//!
//! Paste these lines one at a time, each after the answer to the one before. Lines that arrive together run concurrently:
//!
//! ```text
//! {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"me","version":"1"}}}
//! {"jsonrpc":"2.0","method":"notifications/initialized"}
//! {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"get_price","arguments":{"item":"tea"}}}
//! {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"get_price","arguments":{"item":"tea"}}}
//! {"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"set_price","arguments":{"item":"tea","price":5}}}
//! {"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"get_price","arguments":{"item":"tea"}}}
//! ```
//!
//! The second answer has `"status": "hit"` in its `_meta`. `set_price` invalidates it, so the last one has the new price.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcp_patterns::{CachedTool, Scope, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone, Default)]
struct Shop {
    prices: Arc<Mutex<HashMap<String, u32>>>,
}

#[server(name = "shop", version = "1.0.0")]
impl Shop {
    /// Reads the price of an item.
    #[tool(read_only = true)]
    async fn get_price(&self, item: String) -> McpResult<String> {
        tokio::time::sleep(Duration::from_millis(500)).await; // a slow database
        let prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(format!("{item} costs {}", prices.get(&item).unwrap_or(&3)))
    }

    /// Changes the price of an item.
    #[tool]
    async fn set_price(&self, item: String, price: u32) -> McpResult<String> {
        self.prices.lock().unwrap_or_else(PoisonError::into_inner).insert(item.clone(), price);
        Ok(format!("{item} costs {price} now"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cached = CachedTool::new()
        .with_ttl(Duration::from_secs(60))
        .with_scope(Scope::Public)
        .tag("get_price", |args| [args["item"].to_string()])
        .invalidates_tags("set_price", |args| [args["item"].to_string()]);
    cached.try_layer(Shop::default())?.run_stdio().await?;
    Ok(())
}
