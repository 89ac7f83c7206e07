//! The cost of a hit and a miss of `CachedTool`, compared with a handwritten cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_patterns::canonical::encode;
use mcp_patterns::{CachedTool, Layer};
use serde_json::{Value, json};
use turbomcp::{McpHandler, RequestContext, ToolResult};

use rows::Row;
use server::Tools;

#[path = "support/distribution.rs"]
mod distribution;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/server.rs"]
mod server;

const TTL: Duration = Duration::from_secs(300);

fn cached(criterion: &mut Criterion) {
    let misses = misses();
    distribution::criterion(criterion, "miss", &misses);
    let hits: Vec<_> = [("0.2_kib", 205), ("1_kib", 1 << 10), ("64_kib", 64 << 10)]
        .iter()
        .flat_map(|(size, bytes)| {
            [1, 2].map(|threads| (format!("hit/{size}/{threads}_threads"), hits(*bytes, threads)))
        })
        .collect();
    for (group, rows) in &hits {
        distribution::criterion(criterion, group, rows);
    }
    if !rows::is_measured() {
        return;
    }
    print("miss", &misses, &rows::side_by_side(&misses));
    for (group, rows) in &hits {
        let times = rows::side_by_side(rows);
        print(group, rows, &times);
        let of = |name: &str| rows.iter().position(|row| row.name == name).map_or(f64::NAN, |at| times[at]);
        for by_hand in ["moka_sync", "moka_future"] {
            let goal = 1.5 * of(by_hand) + of("key");
            println!(
                "goal with {by_hand}: at most {goal:.0}; hit {:.0} ({:.2} of it), without meta {:.0} ({:.2} of it)",
                of("hit"),
                of("hit") / goal,
                of("hit_without_meta"),
                of("hit_without_meta") / goal
            );
        }
    }
}

/// Hits of a result of this many bytes, and the parts of a handwritten hit.
fn hits(bytes: usize, threads: usize) -> Vec<Row> {
    let args = json!({"bytes": bytes});
    let make = {
        let args = args.clone();
        move || args.clone()
    };
    let through = |name: &str, layer: CachedTool| {
        let (server, ctx) = (layer.layer(Tools), RequestContext::new());
        Row::new(name, threads, make.clone(), async move |args| server.call_tool("page", args, &ctx).await)
    };

    let key = ("page".to_owned(), args.to_string());
    let result = ToolResult::text("x".repeat(bytes));
    let sync = moka::sync::Cache::builder().max_capacity(10_000).time_to_live(TTL).build();
    sync.insert(key.clone(), result.clone());
    let future = moka::future::Cache::builder().max_capacity(10_000).time_to_live(TTL).build();
    let by_hand = sync.clone();

    let (sync_key, future_key) = (key.clone(), key);
    vec![
        through("hit", CachedTool::new()),
        through("hit_without_meta", CachedTool::new().without_meta()),
        Row::new("moka_sync", threads, || (), async move |()| sync.get(&sync_key)),
        Row::new(
            "moka_future",
            threads,
            || (),
            async move |()| match future.get(&future_key).await {
                Some(result) => result,
                None => future.get_with(future_key.clone(), async { result.clone() }).await,
            },
        ),
        Row::new("key", threads, make.clone(), async |args: Value| {
            let mut key = Vec::new();
            encode(&args, &mut key);
            key
        }),
        Row::new("text_key_and_moka_sync", threads, make, async move |args: Value| {
            by_hand.get(&("page".to_owned(), args.to_string()))
        }),
    ]
}

/// Calls that all differ, so no cache has their answers.
fn misses() -> Vec<Row> {
    fn row(name: &str, call: impl AsyncFn(Value) -> Option<ToolResult> + Sync + 'static) -> Row {
        let calls = AtomicU64::new(0);
        Row::new(name, 1, move || json!({"a": calls.fetch_add(1, Ordering::Relaxed), "b": 2}), call)
    }
    let ctx = RequestContext::new;
    let through = |name: &str, layer: CachedTool| {
        let (server, ctx) = (layer.allow_skipped_effects(["add"]).layer(Tools), ctx());
        row(name, async move |args| server.call_tool("add", args, &ctx).await.ok())
    };
    let by_hand = moka::sync::Cache::builder().max_capacity(10_000).time_to_live(TTL).build();
    let (bare, spawned, kept) = (ctx(), ctx(), ctx());
    vec![
        row("bare", async move |args| Tools.call_tool("add", args, &bare).await.ok()),
        row("bare_in_a_task", async move |args| in_a_task(args, &spawned).await),
        row("by_hand", async move |args| {
            let key = ("add".to_owned(), args.to_string());
            if let Some(hit) = by_hand.get(&key) {
                return Some(hit);
            }
            let result = in_a_task(args, &kept).await?;
            by_hand.insert(key, result.clone());
            Some(result)
        }),
        through("miss", CachedTool::new()),
        through("miss_without_meta", CachedTool::new().without_meta()),
    ]
}

async fn in_a_task(args: Value, ctx: &RequestContext) -> Option<ToolResult> {
    let ctx = ctx.clone();
    tokio::spawn(async move { Tools.call_tool("add", args, &ctx).await }).await.ok()?.ok()
}

fn print(group: &str, rows: &[Row], times: &[f64]) {
    println!("\n{group:<24} {:>10}", "ns");
    for (row, time) in rows.iter().zip(times) {
        println!("{:<24} {time:>10.0}", row.name);
    }
}

criterion_group!(benches, cached);
criterion_main!(benches);
