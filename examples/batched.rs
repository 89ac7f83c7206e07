//! Calls that arrive at the same time become one bulk call.
//!
//! `cargo run --example batched --features batched` serves it over stdio.
//!
//! Send two calls at once, and see that `bulk call for 2 users` is logged once:
//!
//! ```sh
//! call() { echo '{"jsonrpc":"2.0","id":'$1',"method":"tools/call","params":{"name":"get_user","arguments":{"id":'$1'}}}'; }
//! hello='{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"sh","version":"1"}}}'
//! (echo "$hello"; echo '{"jsonrpc":"2.0","method":"notifications/initialized"}'; sleep 1; call 1; call 2; sleep 1) |
//!     cargo run --example batched --features batched
//! ```

use std::time::Duration;

use mcp_patterns::batched::Call;
use mcp_patterns::{BatchedTool, TryLayer};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Users;

#[server(name = "users", version = "1.0.0")]
impl Users {
    /// Reads the name of a user.
    #[tool(read_only = true)]
    async fn get_user(&self, id: u64) -> McpResult<String> {
        Ok(format!("User {id}"))
    }
}

/// Answers all calls with one query, such as `select id, name from users where id = any($1)`.
async fn get_users(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
    eprintln!("bulk call for {} users", calls.len());
    let name = |call: &Call| match call.args["id"].as_u64() {
        Some(id @ 1..100) => Ok(format!("User {id}")),
        _ => Err(McpError::invalid_params("There is no such user")),
    };
    Ok(calls.iter().map(name).collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without the delay, a call is sent as soon as a batch may start. With it, calls wait for others for up to 5 ms.
    let batched = BatchedTool::new().with_bulk("get_user", get_users).with_max_delay(Duration::from_millis(5));
    batched.try_layer(Users)?.run_stdio().await?;
    Ok(())
}
