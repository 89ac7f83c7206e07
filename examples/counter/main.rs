//! The counter server: `cargo run --example counter --features full -- --http 127.0.0.1:8080`.

use clap::Parser;
use mcp_patterns::{TryLayer, layer};

#[path = "../support/database.rs"]
pub mod database;
pub mod logged;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;
pub mod sessions;

/// Counts by name, and for each session, over stdio or HTTP
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: serve::ServeArgs,

    #[command(flatten)]
    sessions: sessions::SessionArgs,
}

#[tokio::main]
async fn main() -> Result<(), serve::Failure> {
    let args = Args::parse();
    serve::init_logging();
    let sessions = sessions::store(&args.sessions).await?;
    let server = (layer(logged::Logged), sessions).try_layer(server::CounterServer::default())?;
    serve::serve(server, &args.serve).await
}
