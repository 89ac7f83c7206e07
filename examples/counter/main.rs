//! The counter server: `cargo run --example counter -- --http 127.0.0.1:8080`.

use clap::Parser;

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
    serve::serve(server::CounterServer::default(), &args.serve).await
}
