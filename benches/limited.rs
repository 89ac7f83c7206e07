//! The cost of a call that the limits let through: in memory, in nanoseconds over a bare call; in Redis, in calls per second, compared with
//! the bare client that sends the same script. And the memory under a flood of principals.
//!
//! Redis at `TEST_REDIS_URL`, or at its usual address.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::env;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use futures_util::future::join_all;
use mcp_patterns::limited::{Concurrency, Per, Rate, RedisBackend};
use mcp_patterns::{AnyRedisConnection, Layer, LimitedTool};
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use turbomcp::{McpHandler, RequestContext};

use rows::Row;
use server::Tools;

#[path = "support/rows.rs"]
mod rows;
#[path = "support/server.rs"]
mod server;

/// Far above what a bench can do.
const NEVER_REACHED: Rate = Rate::per_second(1_000_000_000);

fn main() {
    if !rows::is_measured() {
        return;
    }
    in_memory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    principals(&runtime);
    runtime.block_on(in_redis());
}

fn row(name: &str, server: impl McpHandler + Sync) -> Row {
    let ada = RequestContext::new().with_user_id("ada");
    Row::new(name, 1, || json!({}), async move |args: Value| server.call_tool("noop", args, &ada).await)
}

fn in_memory() {
    let new = LimitedTool::new;
    let places = Concurrency::new(1_000).with_queue(10);
    let stacks = [
        ("timeout", new().with_timeout(Duration::from_secs(10))),
        ("rate per tool", new().with_rate(Per::Tool, NEVER_REACHED)),
        ("rate per principal", new().with_rate(Per::Principal, NEVER_REACHED)),
        ("concurrency per tool", new().with_concurrency(Per::Tool, places)),
        ("adaptive concurrency per tool", new().with_concurrency(Per::Tool, places.with_adaptive_limit(1, 2_000))),
        (
            "rate per principal, concurrency per tool",
            new().with_rate(Per::Principal, NEVER_REACHED).with_concurrency(Per::Tool, places),
        ),
    ];
    let bare = row("bare", Tools);
    let rows: Vec<_> = [bare].into_iter().chain(stacks.map(|(name, layer)| row(name, layer.layer(Tools)))).collect();
    let times = rows::side_by_side(&rows);
    println!("| a call let through by | ns | over bare |\n| --- | --- | --- |");
    for (row, time) in rows.iter().zip(&times) {
        println!("| {} | {time:.0} | {:.0} |", row.name, time - times[0]);
    }
}

/// A million principals make one call each.
fn principals(runtime: &tokio::runtime::Runtime) {
    const PRINCIPALS: usize = 1_000_000;
    println!("\n| principals | entries of their own | bytes kept | ns per call |\n| --- | --- | --- | --- |");
    for max in [10_000, PRINCIPALS] {
        let limits = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(60)).with_max_principals(max);
        let handle = limits.handle();
        let server = limits.layer(Tools);
        let mut took = Duration::ZERO;
        let kept = measure(|| {
            let began = Instant::now();
            for number in 0..PRINCIPALS {
                let ctx = RequestContext::new().with_user_id(number.to_string());
                drop(runtime.block_on(server.call_tool("noop", json!({}), &ctx)));
            }
            took = began.elapsed();
        });
        let entries = handle.stats().entries;
        println!("| {PRINCIPALS} | {entries} | {} | {} |", kept.bytes_current, took.as_nanos() / PRINCIPALS as u128);
    }
}

/// Calls per second through the layer, and of the bare client.
async fn in_redis() {
    const CALLS: usize = 20_000;
    const ROUNDS: usize = 7;
    const SCRIPT: &str = "
        local time = redis.call('TIME')
        local now, interval, burst = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
        local used = math.max((redis.call('GET', KEYS[1]) or 0) - now, 0)
        if used + interval > interval * burst then return math.ceil(used + interval - interval * burst) end
        used = used + interval
        redis.call('SET', KEYS[1], string.format('%.2f', now + used), 'PX', math.ceil(used / 1000))
        return 0";
    let url = env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let client = redis::Client::open(url).expect("an address");
    let connection: MultiplexedConnection =
        client.get_multiplexed_async_connection().await.expect("Redis is reachable");
    let prefix = format!("mcp-patterns-bench:{:016x}:", fastrand::u64(..));
    let backend = RedisBackend::new(AnyRedisConnection::from_redis_1(connection.clone()))
        .with_prefix(&prefix)
        .with_timeout(Duration::from_secs(10));
    let limits = LimitedTool::new()
        .with_rate(Per::Principal, Rate::per_second(1_000_000))
        .with_replicas(1)
        .with_backend(backend);
    let handle = limits.handle();
    let (server, script) = (limits.layer(Tools), Script::new(SCRIPT));
    let layered = async |caller: usize| {
        let ctx = RequestContext::new().with_user_id(caller.to_string());
        assert!(server.call_tool("noop", json!({}), &ctx).await.is_ok_and(|result| !result.is_error()));
    };
    let by_hand = async |caller: usize| {
        let mut step = script.prepare_invoke();
        step.key(format!("{prefix}{caller}")).arg(1.0).arg(1_000_000);
        let wait: u64 = step.invoke_async(&mut connection.clone()).await.expect("an answer");
        let ctx = RequestContext::new().with_user_id(caller.to_string());
        assert!(wait == 0 && Tools.call_tool("noop", json!({}), &ctx).await.is_ok());
    };
    println!("\n| callers | by hand, per second | `LimitedTool` with Redis | ratio |\n| --- | --- | --- | --- |");
    for callers in [1, 16] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(timed(callers, CALLS, &by_hand).await);
            times[1].push(timed(callers, CALLS, &layered).await);
        }
        let [by_hand, layered] = times.map(|mut times| {
            times.sort_unstable();
            CALLS as f64 / times[ROUNDS / 2].as_secs_f64()
        });
        println!("| {callers} | {by_hand:.0} | {layered:.0} | {:.2} |", layered / by_hand);
    }
    assert_eq!(handle.stats().backend_failures, 0, "Redis decided each call");
}

async fn timed(callers: usize, calls: usize, call: &impl AsyncFn(usize)) -> Duration {
    let began = Instant::now();
    join_all((0..callers).map(async |caller| {
        for _ in 0..calls / callers {
            call(caller).await;
        }
    }))
    .await;
    began.elapsed()
}
