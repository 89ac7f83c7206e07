//! What a stack says of itself, and the mistakes that it finds.

mod audited;
mod mistakes;
mod seen;

use mcp_patterns::explain::{Explanation, Warning};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{TryLayer, explain};
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use turbomcp_core::{McpHandler, ToolAnnotations};
use turbomcp_types::{Tool, ToolResult};

/// A server with a tool of each kind.
fn shop() -> ScriptedServer {
    let mut stock = Tool::new("stock", "Asks the warehouse.");
    stock.annotations = Some(ToolAnnotations { idempotent_hint: Some(true), ..ToolAnnotations::default() });
    ScriptedServer::new("shop")
        .with_read_only("read", |_| async { Ok(ToolResult::text("read")) })
        .with_tool(stock, |_| async { Ok(ToolResult::text("stocked")) })
        .with_plain("send", |_| async { Ok(ToolResult::text("sent")) })
}

fn pool() -> SqlitePool {
    SqlitePoolOptions::new().connect_lazy("sqlite::memory:").expect("an address")
}

fn explained<L>(layers: &L) -> Explanation
where
    L: TryLayer<ScriptedServer, Service: McpHandler>,
{
    explain(&layers.try_layer(shop()).expect("each setting can work"))
}

fn texts(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
