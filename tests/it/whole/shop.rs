//! A shop with a tool for each layer, and all layers in the documented order: for tests and for benches.

use mcp_patterns::batched::Call;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::session::{Session, SessionMode};
use mcp_patterns::transactional::{self, current};
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, Middleware, MiddlewareLayer, RetryTool, SessionStore,
    TransactionalTool, ValidatedTool, layer,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};
use turbomcp::prelude::*;
use turbomcp_core::{McpHandler, RequestContext};
use validator::Validate;

/// Who registers.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
pub(crate) struct Guest {
    /// What the guest is called.
    #[validate(length(min = 2, max = 40))]
    name: String,
    /// In years.
    #[validate(range(min = 18))]
    age: u32,
}

/// The server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shop;

#[server(name = "shop", version = "1.0.0")]
impl Shop {
    /// Rings the bell. No layer acts on it.
    #[tool]
    async fn ring(&self, times: u32) -> McpResult<String> {
        Ok("ding".repeat(times as usize))
    }

    /// Describes an article. Its answers are cached.
    #[tool(read_only = true)]
    async fn article(&self, id: u32) -> McpResult<String> {
        Ok(format!("article {id}"))
    }

    /// Returns a price. Calls are batched.
    #[tool]
    async fn price(&self, id: u32) -> McpResult<String> {
        Ok(format!("{id} EUR"))
    }

    /// Asks the warehouse. A failed call is made again.
    #[tool(idempotent = true)]
    async fn stock(&self, id: u32) -> McpResult<String> {
        Ok(format!("{id} pieces"))
    }

    /// Registers a guest. The arguments are validated.
    #[tool]
    async fn register(&self, guest: Guest) -> McpResult<String> {
        Ok(format!("welcome {} ({})", guest.name, guest.age))
    }

    /// Remembers the basket in the caller's session.
    #[tool]
    async fn remember(&self, basket: String) -> McpResult<String> {
        Session::current()?.set("basket", &basket).await?;
        Ok(basket)
    }

    /// Sends a message, once for each key.
    #[tool]
    async fn send(&self, to: String) -> McpResult<String> {
        Ok(format!("sent to {to}"))
    }

    /// Pays, in a transaction.
    #[tool]
    async fn pay(&self, cents: i64) -> McpResult<String> {
        let mut db = current::<Sqlite>().await?;
        let insert = sqlx::query("insert into payments values (?)").bind(cents);
        insert.execute(&mut *db).await.map_err(transactional::failed)?;
        Ok(format!("paid {cents}"))
    }
}

/// The arguments of a call of a tool, which differ from call to call.
pub(crate) fn args(tool: &str, call: usize) -> Value {
    match tool {
        "ring" => json!({ "times": 2 }),
        "register" => json!({ "guest": { "name": "Ada", "age": 36 } }),
        "remember" => json!({ "basket": call.to_string() }),
        "send" => json!({ "to": "Ada", "idempotency_key": format!("key-{call}") }),
        "pay" => json!({ "cents": call }),
        _ => json!({ "id": call }),
    }
}

/// One signed-in user.
pub(crate) fn ada() -> RequestContext {
    RequestContext::with_id("1").with_user_id("ada")
}

/// A database in memory, with the shop's table.
pub(crate) async fn database() -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("create table payments (cents integer not null)").execute(&pool).await?;
    Ok(pool)
}

/// A typical layer of a user: an `async` body around the inner call.
#[derive(Debug, Clone)]
pub(crate) struct Own;

impl Middleware for Own {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        inner.call_tool(name, args, ctx).await
    }
}

pub(crate) fn own() -> MiddlewareLayer<Own> {
    layer(Own)
}

pub(crate) fn validated() -> ValidatedTool {
    ValidatedTool::new().except(["ring"]).typed::<Guest>("register")
}

pub(crate) fn session() -> SessionStore {
    SessionStore::in_memory().with_mode(SessionMode::Principal).only(["remember"])
}

pub(crate) fn cached() -> CachedTool {
    CachedTool::new()
}

pub(crate) fn batched() -> BatchedTool {
    BatchedTool::new().with_bulk("price", prices)
}

async fn prices(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
    Ok(calls.iter().map(|call| Ok(format!("{} EUR", call.args["id"]))).collect())
}

pub(crate) fn retry() -> RetryTool {
    RetryTool::new()
}

pub(crate) fn idempotent() -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).only(["send"])
}

pub(crate) fn transactional(pool: &SqlitePool) -> TransactionalTool<Sqlite> {
    TransactionalTool::new(pool.clone()).only(["pay"])
}

/// The shop under all layers, in the documented order.
pub(crate) fn whole(pool: &SqlitePool) -> impl McpHandler + use<> {
    let inner = (batched(), retry(), idempotent(), transactional(pool));
    (own(), validated(), session(), cached()).layer(inner.layer(Shop))
}
