//! The transfer server: `cargo run --example transfer -- --http 127.0.0.1:8080`.

use clap::Parser;
use mcp_patterns::idempotency::Idempotency;
use mcp_patterns::transactional::{Dialect, Transactor};
use mcp_patterns::{RetryTool, TransactionalTool, TryLayer};
use sqlx::{Pool, Postgres, Sqlite};
use turbomcp::McpError;

pub mod amount;
pub mod database;
pub mod ledger;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;

use amount::Cents;
use ledger::{Ledger, Tables};
use serve::{Failure, ServeArgs};
use server::TransferServer;

/// Keeps accounts and moves money between them, over stdio or HTTP
///
/// Without --database-url the accounts are in memory and gone when the server ends; there are two to begin with, 1 and 2,
/// with $100.00 each.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: ServeArgs,

    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite::memory:",
        help = "Where the accounts are: sqlite::memory:, sqlite:FILE or postgres://USER@HOST/DATABASE"
    )]
    database_url: String,

    /// How many connections to the database are open at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    serve::init_logging();
    match args.database_url.split_once(':') {
        Some(("sqlite", _)) => {
            let pool =
                database::sqlite(&args.database_url, args.max_connections).await.map_err(|error| unopened(&error))?;
            Sqlite::make(&pool).await?;
            if database::is_in_memory(&args.database_url) {
                open_some_accounts(&pool).await?;
            }
            run(Sqlite, pool, &args.serve).await
        }
        Some(("postgres" | "postgresql", _)) => {
            let pool =
                database::postgres(&args.database_url, args.max_connections).await.map_err(|error| unopened(&error))?;
            Postgres::make(&pool).await?;
            run(Postgres, pool, &args.serve).await
        }
        _ => Err(McpError::configuration("--database-url begins with sqlite: or postgres:").into()),
    }
}

/// Says what to look at; the URL itself may hold a password.
fn unopened(error: &sqlx::Error) -> McpError {
    McpError::configuration(format!(
        "the database at --database-url cannot be opened, is it there and running? ({error})"
    ))
}

/// Gives a newcomer something to move.
async fn open_some_accounts(pool: &Pool<Sqlite>) -> Result<(), McpError> {
    let transactor = Transactor::new(pool.clone());
    for owner in ["acme", "globex"] {
        transactor.run(&(), || Sqlite.open(owner, Cents(10_000))).await?;
    }
    Ok(())
}

async fn run<DB: Dialect + Ledger>(ledger: DB, pool: Pool<DB>, args: &ServeArgs) -> Result<(), Failure> {
    TransactionalTool::ensure_schema(&pool).await?;
    let transactional = TransactionalTool::new(pool.clone()).when(|_| true).with_idempotency(Idempotency::new());
    let server = (RetryTool::new(), transactional).try_layer(TransferServer::new(ledger))?;
    let served = serve::serve(server, args).await;
    pool.close().await;
    served
}
