//! A tour of the layers: `cargo run --example tour --features full`.
//!
//! It drives the example servers `counter`, `weather`, `transfer` and `users` through their layers and shows what each layer did. Every number
//! is measured in the run, and a promise that is not kept ends the tour with an error.

use std::{
    env,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

#[path = "../counter"]
pub mod counter {
    //! The example server `counter`.
    pub mod logged;
    pub mod server;
}
#[path = "../transfer"]
pub mod transfer {
    //! The example server `transfer`, and where its accounts are.
    pub mod amount;
    #[path = "../support/database.rs"]
    pub mod database;
    pub mod ledger;
    pub mod server;
}
#[path = "../users"]
pub mod users {
    //! The example server `users`, and where its users are.
    pub mod server;
    pub mod store;
}
#[path = "../weather"]
pub mod weather {
    //! The example server `weather`.
    pub mod client;
    pub mod geocoder;
    pub mod server;
    pub mod sources;
}
#[path = "../support/upstream/mod.rs"]
pub mod upstream;

mod backstage;
mod batched;
mod cached;
mod counting;
mod explained;
mod levels;
mod money;
mod overload;
mod retry;
mod safety;
mod scope;
mod sessions;
mod stage;
mod validated;
mod workflow;

use stage::{Failure, Stage, Table, text};

/// How long the tour may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// The manual of each layer, outermost first.
const READ_ON: &[(&str, &[&str])] = &[
    ("ValidatedTool", &["mcp_patterns::validated", "examples/users"]),
    ("SessionStore", &["mcp_patterns::session", "docs/sessions.md"]),
    ("CachedTool", &["mcp_patterns::cached", "examples/weather"]),
    ("BatchedTool", &["mcp_patterns::batched", "docs/batching.md"]),
    ("RetryTool", &["mcp_patterns::retry", "examples/weather"]),
    ("BreakerTool", &["mcp_patterns::breaker", "examples/breaker.rs"]),
    ("LimitedTool", &["mcp_patterns::limited", "examples/limited.rs"]),
    ("IdempotentTool", &["mcp_patterns::idempotent", "examples/idempotent.rs"]),
    ("TransactionalTool", &["mcp_patterns::transactional", "examples/transfer"]),
    ("inside a tool", &["mcp_patterns::workflow", "examples/weather"]),
    ("a layer of your own", &["mcp_patterns::middleware", "examples/counter"]),
    ("every layer", &["docs/ordering.md", "mcp_patterns::explain"]),
];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if let Some(argument) = env::args().nth(1) {
        eprintln!("The tour takes no arguments, and so not `{argument}`.");
        std::process::exit(2);
    }
    // Log lines between the scenes are off by default.
    if env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
        let filter = EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal()).with_env_filter(filter).init();
    }
    timeout(PATIENCE, tour()).await.map_err(|_| Failure::new(format!("the tour hung for {PATIENCE:?}")))?
}

async fn tour() -> Result<(), Failure> {
    let started = Instant::now();
    let mut stage = Stage::new();
    let build = if cfg!(debug_assertions) { " This is a debug build; `--release` is faster." } else { "" };
    stage.open(
        "mcp-patterns: a tour of its layers",
        &format!(
            "A layer wraps an MCP server and takes care of one thing that goes wrong in production. Each scene puts some \
             on an example server and calls it with the official SDK's client, all inside this process. Every number is \
             measured as you watch.{build}"
        ),
    )?;

    counting::show(&mut stage).await?;
    retry::show(&mut stage).await?;
    overload::show(&mut stage).await?;
    cached::show(&mut stage).await?;
    levels::show(&mut stage).await?;
    scope::show(&mut stage).await?;
    sessions::show(&mut stage).await?;
    batched::show(&mut stage).await?;
    safety::show(&mut stage).await?;
    money::show(&mut stage).await?;
    validated::show(&mut stage).await?;
    workflow::show(&mut stage).await?;
    explained::show(&mut stage)?;

    close(&mut stage, started.elapsed())
}

/// Prints the notes of the scenes by layer.
fn close(stage: &mut Stage, took: Duration) -> Result<(), Failure> {
    let mut table = Table::new(["layer", "in this run", "read on"]);
    for (layer, read_on) in READ_ON {
        let deeds = stage.deeds_of(layer);
        for line in 0..deeds.len().max(read_on.len()) {
            let name = if line == 0 { layer } else { "" };
            let deed = deeds.get(line).map_or("", String::as_str);
            let page = read_on.get(line).copied().unwrap_or_default();
            table = table.row([text(name).strong(), text(deed), text(page).code()]);
        }
    }
    stage.act("What each layer did")?;
    stage.table(&table)?;
    stage.conclude(&format!("Every promise held. The tour took {}.", stage::human(took)))?;
    Ok(())
}
