//! Allocations of a call, counted and not sampled.

use allocation_counter::measure;
use mcp_patterns::{CachedTool, Layer};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use turbomcp::{McpHandler, RequestContext};

use server::Tools;
use stacks::Visit;

#[path = "support/server.rs"]
mod server;
#[path = "support/stacks.rs"]
mod stacks;

/// The number of calls of each kind that are counted one by one.
const CALLS: usize = 1001;

struct Counts {
    runtime: Runtime,
    tool: &'static str,
    args: fn(usize) -> Value,
    bare: Option<i64>,
}

impl Visit for Counts {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H) {
        let ctx = RequestContext::new();
        let mut counted: Vec<_> = (0..CALLS)
            .map(|call| {
                let args = (self.args)(call);
                let count = measure(|| drop(self.runtime.block_on(server.call_tool(self.tool, args, &ctx))));
                (count.count_total.cast_signed(), count.bytes_total)
            })
            .collect();
        counted.sort_unstable();
        // A cache sometimes runs maintenance, so calls differ: the median is the usual call.
        let (usual, bytes) = counted[CALLS / 2];
        let average = counted.iter().map(|(count, _)| count).sum::<i64>() as f64 / CALLS as f64;
        let over = usual - *self.bare.get_or_insert(usual);
        println!("{:<6} {stack:<24} {usual:>10} {over:>10} {average:>10.2} {bytes:>10}", self.tool);
    }
}

fn main() -> std::io::Result<()> {
    println!("{:<6} {:<24} {:>10} {:>10} {:>10} {:>10}", "tool", "stack", "usual", "over bare", "average", "bytes");
    let counts = |tool, args| {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok::<_, std::io::Error>(Counts { runtime, tool, args, bare: None })
    };
    stacks::idle(&Tools, &mut counts("noop", |_| json!({}))?);

    let mut add = counts("add", |call| json!({"a": call, "b": 2}))?;
    stacks::idle(&Tools, &mut add);
    stacks::retrying(&Tools, &mut add);
    let cached = CachedTool::new().allow_skipped_effects(["add"]);
    add.visit("miss", cached.layer(Tools));
    add.visit("miss_without_meta", cached.with_max_entries(10_000).without_meta().layer(Tools));

    let mut page = counts("page", |_| json!({"bytes": 205}))?;
    page.visit("bare", Tools);
    page.visit("hit", CachedTool::new().layer(Tools));
    page.visit("hit_without_meta", CachedTool::new().without_meta().layer(Tools));
    Ok(())
}
