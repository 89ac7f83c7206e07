//! The server that the official conformance suite expects.

use clap::Parser;
use mcp_patterns_foreign::{Failure, Named, Options, run};
use turbomcp::prelude::*;

#[derive(Debug, Clone)]
struct Fixtures;

#[server(name = "mcp-patterns-conformance", version = "1.0.0")]
impl Fixtures {
    /// Answers a text.
    #[tool(read_only = true, open_world = false)]
    async fn test_simple_text(&self) -> String {
        "This is a simple text response for testing.".into()
    }
}

const NAMED: Named = Named::NOTHING;

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(16 << 20).build()?;
    runtime.block_on(run(Fixtures, &NAMED, &options))
}
