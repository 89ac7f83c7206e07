//! The users server: `cargo run --example users --features full -- --http 127.0.0.1:8080`.

use std::sync::Arc;

use clap::Parser;
use mcp_patterns::transactional::Dialect;
use mcp_patterns::{TransactionalTool, TryLayer};
use sqlx::{Pool, Postgres, Sqlite};

#[path = "../support/database.rs"]
pub mod database;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;
pub mod store;

use database::{Database, DatabaseArgs};
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

    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    serve::init_logging();
    match args.database.open().await? {
        Database::Sqlite(pool) => {
            Tables::<Sqlite>::make(&pool).await?;
            run(Arc::new(Tables(pool.clone())), pool, &args.serve).await
        }
        Database::Postgres(pool) => {
            Tables::<Postgres>::make(&pool).await?;
            run(Arc::new(Tables(pool.clone())), pool, &args.serve).await
        }
    }
}

async fn run<DB: Dialect>(store: Arc<dyn Store>, pool: Pool<DB>, args: &ServeArgs) -> Result<(), Failure> {
    let transactional = TransactionalTool::new(pool.clone()).every_write();
    let server = (validated(&store), transactional).try_layer(UsersServer::new(store))?;
    let served = serve::serve(server, args).await;
    pool.close().await;
    served
}
