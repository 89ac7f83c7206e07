//! The server that the driver calls: a tool for each possible error of a layer.
//!
//! Most tools exist twice. One counts as a tool with effects, so no layer shares or repeats its calls by default. Its
//! twin, whose name ends with `_read`, does the same and is annotated read-only, so its calls are cached, batched and
//! retried.

mod asking;
mod failing;
mod gallery;
mod server;
mod slow;
mod state;

use clap::Parser;
use mcp_patterns::cached::Reads;
use mcp_patterns::validated::Limits;
use mcp_patterns_foreign::{Failure, Named, Options, run};

/// The size that the driver sends in each direction, with room for the names around it.
const LARGE: usize = 8 << 20;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let named = Named {
        idempotent: &["remember"],
        transactional: &["add"],
        validated: |validated| {
            let limits = Limits::new().with_max_bytes(LARGE).with_max_string_bytes(LARGE);
            validated.with_limits_for("echo_read", limits)
        },
        cached: |cached| {
            cached
                .with_max_result_bytes(2 * LARGE)
                .invalidates("add", ["total"])
                .with_resources(Reads::new())
                .with_prompts(Reads::new())
                .invalidates_resources("change_note", |_| [server::NOTE])
        },
    };
    run(server::Driven::default(), &named, &options).await
}
