//! The cost of a lone call through `BatchedTool`, compared with the call itself: for work of a millisecond, and for
//! work that takes no time.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_patterns::batched::Call;
use mcp_patterns::{BatchedTool, Layer};
use serde_json::json;
use turbomcp::prelude::*;

use rows::Row;

#[path = "support/distribution.rs"]
mod distribution;
#[path = "support/rows.rs"]
mod rows;

const WORK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone)]
struct Rows;

#[server(name = "rows", version = "1.0.0")]
impl Rows {
    /// Reads a row, which takes a millisecond.
    #[tool(read_only = true)]
    async fn slow(&self, id: u64) -> String {
        tokio::time::sleep(WORK).await;
        format!("row {id}")
    }

    /// Reads a row, which takes no time.
    #[tool(read_only = true)]
    async fn fast(&self, id: u64) -> String {
        format!("row {id}")
    }
}

async fn slow(calls: Vec<Call>) -> Vec<McpResult<String>> {
    tokio::time::sleep(WORK).await;
    fast(calls).await
}

async fn fast(calls: Vec<Call>) -> Vec<McpResult<String>> {
    calls.iter().map(|call| Ok(format!("row {}", call.args["id"]))).collect()
}

fn batched(criterion: &mut Criterion) {
    let groups = ["slow", "fast"].map(|tool| (tool, lone_calls(tool)));
    for (tool, rows) in &groups {
        distribution::criterion(criterion, tool, rows);
    }
    if !rows::is_measured() {
        return;
    }
    for (tool, rows) in &groups {
        let times = rows::side_by_side(rows);
        println!("\n{tool:<24} {:>10} {:>10}", "ns", "ratio");
        for (row, time) in rows.iter().zip(&times) {
            println!("{:<24} {time:>10.0} {:>10.2}", row.name, time / times[0]);
        }
    }
}

/// Makes calls of one tool, one after the other.
fn lone_calls(tool: &'static str) -> Vec<Row> {
    fn row(name: &str, tool: &'static str, server: impl McpHandler) -> Row {
        let ctx = RequestContext::new();
        Row::new(name, 1, || json!({"id": 7}), async move |args| server.call_tool(tool, args, &ctx).await)
    }
    let spawned =
        async move |args| tokio::spawn(async move { Rows.call_tool(tool, args, &RequestContext::new()).await }).await;
    let bulk = BatchedTool::new().with_bulk("slow", slow).with_bulk("fast", fast);
    vec![
        row("direct", tool, Rows),
        Row::new("direct_in_a_task", 1, || json!({"id": 7}), spawned),
        row("batched", tool, bulk.layer(Rows)),
        row("batched_without_bulk", tool, BatchedTool::new().only([tool]).layer(Rows)),
    ]
}

criterion_group!(benches, batched);
criterion_main!(benches);
