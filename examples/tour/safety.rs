//! Scene: unsafe settings that the layers refuse.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use mcp_patterns::{
    CachedTool, IdempotentTool, Layer, RetryTool, TryLayer, idempotent::MemoryBackend, selection::Hints,
};
use serde_json::{Value, json};
use turbomcp::prelude::*;

use crate::{
    backstage::Client,
    stage::{Cell, Failure, Stage, Table, check, number, text},
};

const EUROS: u64 = 20;

/// A till whose answers get lost: it does its work, and its caller gets a timeout.
#[derive(Debug, Clone, Default)]
struct Till {
    calls: Arc<AtomicU64>,
    charged: Arc<AtomicU64>,
}

#[server(name = "till", version = "1.0.0")]
impl Till {
    #[tool(description = "Charges the customer's card", read_only = false, idempotent = false)]
    async fn charge(&self, #[description("How much, in euros")] euros: u64) -> McpResult<String> {
        self.calls.fetch_add(1, Relaxed);
        self.charged.fetch_add(euros, Relaxed);
        Err(lost())
    }

    #[tool(description = "Reads how much was charged", read_only = true)]
    async fn total(&self) -> McpResult<String> {
        self.calls.fetch_add(1, Relaxed);
        Err(lost())
    }
}

fn lost() -> McpError {
    McpError::timeout("The bank did not answer in time")
}

pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    stage.scene(
        "A retry that would charge twice",
        "A till charges a card. Then its answer is lost, and the caller gets a timeout. A second attempt would charge again. \
         RetryTool reads what the author of the tool says about it: its annotations.",
    )?;
    let safe = RetryTool::new();
    let reckless = RetryTool::new().allow_repeated_effects(["charge"]);
    stage.code(include_str!("safety.rs"), ["let safe =", "let reckless ="])?;

    let charge = || json!({ "euros": EUROS });
    let read = Sale::make("total", json!({}), &safe).await?;
    let once = Sale::make("charge", charge(), &safe).await?;
    let thrice = Sale::make("charge", charge(), &reckless).await?;
    let headings = ["layer", "tool", "its author says", "the caller gets", "tool calls", "charged"];
    let table = Table::new(headings).row(read.row("safe")).row(once.row("safe")).row(thrice.row("reckless"));
    stage.table(&table)?;
    check("euros charged for one sale", once.charged, EUROS)?;
    check("calls of a charge that failed", once.calls, 1)?;
    check("calls of a reading that failed", read.calls, 3)?;

    stage.say(
        "The reckless one had to be asked for by name. Mistakes in the settings are found when the layer is put on:",
    )?;
    let mut mistakes = 0;
    macro_rules! mistake {
        ($setting:expr) => {
            match $setting.try_layer(Till::default()) {
                Err(mistake) => {
                    mistakes += 1;
                    stage.refused(concat!(stringify!($setting), ".try_layer(till)"), &mistake.to_string())?;
                }
                Ok(_) => return Err(Failure::new(concat!(stringify!($setting), " was not refused"))),
            }
        };
    }
    mistake!(CachedTool::new().only(["totals"]));
    mistake!(RetryTool::new().only(["charge"]));
    mistake!(RetryTool::new().with_max_attempts(0));

    stage.say("A caller who repeats a lost call sends the same key. IdempotentTool runs a call with that key once:")?;
    let keyed = IdempotentTool::new(MemoryBackend::new()).only(["charge"]);
    stage.code(include_str!("safety.rs"), ["let keyed ="])?;
    let till = Till::default();
    let client = Client::connect(&keyed.layer(till.clone())).await?;
    for _ in 0..2 {
        let answer = client.call("charge", json!({ "euros": EUROS, "idempotency_key": "sale-1" })).await?;
        check("a lost answer is an error", answer.is_error(), true)?;
    }
    let charged = till.charged.load(Relaxed);
    check("euros charged for two calls with one key", charged, EUROS)?;
    stage.say(&format!(
        "Two calls, and {charged} € were charged. The second one is told that the first may have taken effect."
    ))?;

    stage.conclude(&format!(
        "The card was charged once, {} €, although the call failed. A retry that ignores the annotations would have charged {} €.",
        once.charged, thrice.charged
    ))?;
    stage.note("RetryTool", format!("called a failing `charge` {} time, not {}", once.calls, thrice.calls));
    stage.note("IdempotentTool", "charged once for two calls with one key");
    stage.note("every layer", format!("{mistakes} mistakes in settings found at the start"));
    Ok(())
}

/// The result of one call of a till.
struct Sale {
    tool: &'static str,
    /// The annotations of the tool's author.
    author: &'static str,
    heard: String,
    calls: u64,
    charged: u64,
}

impl Sale {
    async fn make(tool: &'static str, arguments: Value, retry: &RetryTool) -> Result<Self, Failure> {
        let till = Till::default();
        let hints = till.list_tools().iter().find(|listed| listed.name == tool).map(Hints::of);
        let author = match hints {
            Some(hints) if hints.read_only => "changes nothing",
            Some(hints) if hints.idempotent => "may be repeated",
            Some(_) => "may not be repeated",
            None => return Err(Failure::new(format!("the till has no `{tool}`"))),
        };
        let client = Client::connect(&retry.layer(till.clone())).await?;
        let answer = client.call(tool, arguments).await?;
        check("a lost answer is an error", answer.is_error(), true)?;
        let (calls, charged) = (till.calls.load(Relaxed), till.charged.load(Relaxed));
        Ok(Self { tool, author, heard: answer.text().to_owned(), calls, charged })
    }

    fn row(&self, layer: &str) -> [Cell; 6] {
        let charged = text(format!("{} €", self.charged));
        [
            text(layer).strong(),
            text(self.tool),
            text(self.author),
            text(&self.heard),
            number(self.calls),
            if self.charged > EUROS { charged.bad() } else { charged },
        ]
    }
}
