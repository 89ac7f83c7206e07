//! The server of rmcp that the newer conformance suite expects: by the protocol 2026-07-28, without sessions.

mod content;
mod questions;
mod server;
mod tasks;

use clap::Parser;
use mcp_patterns::cached::Reads;
use mcp_patterns_foreign::{Failure, Named, Options, run_rmcp};

/// No tool runs in a transaction: each that writes asks its client, or is a task.
const NAMED: Named = Named {
    idempotent: &["confirm_delete", "multi_input", "slow_compute"],
    cached: |cached| cached.with_resources(Reads::new()).with_prompts(Reads::new()),
    ..Named::NOTHING
};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    run_rmcp(server::Fixtures::new(), &NAMED, &options).await
}
