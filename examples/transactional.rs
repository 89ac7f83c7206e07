//! A transfer that fails half-way changes nothing, and one with a key takes effect once.
//!
//! `cargo run --example transactional --features sqlite,transactional` serves it over stdio.
//!
//! Call `transfer` from an MCP client, such as `npx @modelcontextprotocol/inspector` with that command, with
//! `{"from": 1, "to": 2, "cents": 60}`. The second call fails, since account 1 has 40 left, and `balance` shows that
//! account 2 still has 60. Add `"idempotency_key": "a"` and call with 10 cents twice: the second answer is marked
//! `replayed`, and 10 cents have moved.

use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::transactional::{current, failed};
use mcp_patterns::{TransactionalTool, TryLayer};
use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};
use turbomcp::prelude::*;

#[derive(Clone)]
struct Bank {
    db: SqlitePool,
}

#[server(name = "bank", version = "1.0.0")]
impl Bank {
    /// Moves money, in cents.
    #[tool(destructive = true)]
    async fn transfer(&self, from: i64, to: i64, cents: u32) -> McpResult<String> {
        let mut db = current::<Sqlite>().await?;
        let credit = sqlx::query("update accounts set cents = cents + $1 where id = $2").bind(cents).bind(to);
        let credited = credit.execute(&mut *db).await.map_err(failed)?.rows_affected();
        let debit = sqlx::query("update accounts set cents = cents - $1 where id = $2 and cents >= $1");
        let debited = debit.bind(cents).bind(from).execute(&mut *db).await.map_err(failed)?.rows_affected();
        match (credited, debited) {
            (1, 1) => Ok(format!("Transferred {cents} cents from {from} to {to}")),
            (1, _) => Err(McpError::invalid_request("Insufficient funds")), // the credit is undone
            _ => Err(McpError::invalid_request("No such account")),
        }
    }

    /// Reads the balance of an account, in cents.
    #[tool(read_only = true)]
    async fn balance(&self, id: i64) -> McpResult<String> {
        let cents = sqlx::query_scalar::<_, i64>("select cents from accounts where id = $1").bind(id);
        let cents = cents.fetch_optional(&self.db).await.map_err(failed)?;
        cents.map(|cents| cents.to_string()).ok_or_else(|| McpError::invalid_request("No such account"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A database in memory lives as long as its one connection.
    let options = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let db = options.connect("sqlite::memory:").await?;
    sqlx::query("create table accounts (id integer primary key, cents integer not null)").execute(&db).await?;
    sqlx::query("insert into accounts values (1, 100), (2, 0)").execute(&db).await?;
    TransactionalTool::ensure_schema(&db).await?;

    let transactional = TransactionalTool::new(db.clone()).only(["transfer"]).with_idempotency(Idempotency::new());
    Ok(transactional.try_layer(Bank { db })?.run_stdio().await?)
}
