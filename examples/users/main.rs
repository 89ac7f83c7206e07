//! The users server: `cargo run --example users -- --http 127.0.0.1:8080`.

use std::sync::Arc;

use clap::Parser;
use mcp_patterns::transactional::Dialect;
use mcp_patterns::{TransactionalTool, TryLayer};
use sqlx::{Pool, Postgres, Sqlite};
use turbomcp::McpError;

#[path = "../transfer/database.rs"]
pub mod database;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;
pub mod store;

use serve::{Failure, ServeArgs};
use server::{UsersServer, validated};
use store::{Store, Tables};

/// Keeps users and their orders, over stdio or HTTP
///
/// Without --database-url they are in memory and gone when the server ends. There are three products to order: 1 tea, 2 teapot,
/// 3 samovar.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: ServeArgs,

    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite::memory:",
        help = "Where the users are: sqlite::memory:, sqlite:FILE or postgres://USER@HOST/DATABASE"
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
            Tables::<Sqlite>::make(&pool).await?;
            run(Arc::new(Tables(pool.clone())), pool, &args.serve).await
        }
        Some(("postgres" | "postgresql", _)) => {
            let pool =
                database::postgres(&args.database_url, args.max_connections).await.map_err(|error| unopened(&error))?;
            Tables::<Postgres>::make(&pool).await?;
            run(Arc::new(Tables(pool.clone())), pool, &args.serve).await
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

async fn run<DB: Dialect>(store: Arc<dyn Store>, pool: Pool<DB>, args: &ServeArgs) -> Result<(), Failure> {
    let transactional = TransactionalTool::new(pool.clone()).every_write();
    let server = (validated(&store), transactional).try_layer(UsersServer::new(store))?;
    let served = serve::serve(server, args).await;
    pool.close().await;
    served
}
