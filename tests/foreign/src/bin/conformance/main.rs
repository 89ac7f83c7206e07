//! The server that the official conformance suite expects: tools, resources and prompts with the suite's names.

mod asking;
mod content;
mod server;

use clap::Parser;
use mcp_patterns::cached::Reads;
use mcp_patterns_foreign::{Failure, Named, Options, run};

/// A transaction is not held open while a user thinks, so the tools that ask a user take keys instead.
const NAMED: Named = Named {
    idempotent: &[
        "test_elicitation",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_sampling",
    ],
    transactional: &["test_reconnection", "test_tool_with_logging", "test_tool_with_progress"],
    cached: |cached| cached.with_resources(Reads::new()).with_prompts(Reads::new()),
    ..Named::NOTHING
};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    run(server::Fixtures::default(), &NAMED, &options).await
}
