//! The transfer server: `cargo run --example transfer --features full -- --http 127.0.0.1:8080`.

use clap::Parser;
use mcp_patterns::idempotency_keys::Idempotency;
use mcp_patterns::transactional::{Dialect, Transactor};
use mcp_patterns::{RetryTool, TransactionalTool, TryLayer};
use sqlx::{Pool, Postgres, Sqlite};
use turbomcp::McpError;

pub mod amount;
#[path = "../support/database.rs"]
pub mod database;
pub mod ledger;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;

use amount::Cents;
use database::{Database, DatabaseArgs};
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

    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    serve::init_logging();
    match args.database.open().await? {
        Database::Sqlite(pool) => {
            Sqlite::make(&pool).await?;
            if args.database.is_in_memory() {
                open_some_accounts(&pool).await?;
            }
            run(Sqlite, pool, &args.serve).await
        }
        Database::Postgres(pool) => {
            Postgres::make(&pool).await?;
            run(Postgres, pool, &args.serve).await
        }
    }
}

/// Creates accounts to start with.
async fn open_some_accounts(pool: &Pool<Sqlite>) -> Result<(), McpError> {
    let transactor = Transactor::new(pool.clone());
    for owner in ["acme", "globex"] {
        transactor.run(&(), || Sqlite.open(owner, Cents(10_000))).await?;
    }
    Ok(())
}

async fn run<DB: Dialect + Ledger>(ledger: DB, pool: Pool<DB>, args: &ServeArgs) -> Result<(), Failure> {
    TransactionalTool::ensure_schema(&pool).await?;
    // The pool has no hooks that must run between two transactions.
    let transactor = Transactor::new(pool.clone()).with_connection_reuse();
    let transactional = TransactionalTool::new(transactor).when(|_| true).with_idempotency(Idempotency::new());
    let server = (RetryTool::new(), transactional).try_layer(TransferServer::new(ledger))?;
    let served = serve::serve(server, args).await;
    pool.close().await;
    served
}
