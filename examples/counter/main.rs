//! The counter server: `cargo run --example counter -- --http 127.0.0.1:8080`.

use clap::Parser;
use mcp_patterns::{TryLayer, layer};

pub mod logged;
#[path = "../support/serve.rs"]
pub mod serve;
pub mod server;

/// Counts by name, over stdio or HTTP
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[tokio::main]
async fn main() -> Result<(), serve::Failure> {
    let args = Args::parse();
    serve::init_logging();
    let server = layer(logged::Logged).try_layer(server::CounterServer::default())?;
    serve::serve(server, &args.serve).await
}
