//! The duration of a call while Redis is killed, hung, slow or returns garbage. Needs `redis-server`, and starts
//! several.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench outages`: two minutes.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcp_patterns::cached::{Handle, RedisLevel};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{AnyRedisConnection, CachedTool, Layer, Layered, RedisConnection, outcome};
use redis::aio::ConnectionManagerConfig;
use serde_json::json;
use turbomcp::{McpHandler, RequestContext, ToolResult};

#[path = "support/private_redis.rs"]
mod private_redis;

use private_redis::{PrivateRedis, Wire, proxy};

type Failure = Box<dyn std::error::Error>;
type Server = Layered<CachedTool, ScriptedServer>;

const CALLERS: usize = 16;
const PHASES: [(&str, Duration); 4] = [
    ("before", Duration::from_secs(2)),
    ("the first second", Duration::from_secs(1)),
    ("then, until it is used again", Duration::from_secs(11)),
    ("after that", Duration::from_secs(2)),
];

struct Case {
    name: &'static str,
    breaks: fn(&mut PrivateRedis, &Wire) -> std::io::Result<()>,
    mends: fn(&mut PrivateRedis, &Wire) -> std::io::Result<()>,
}

const CASES: [Case; 5] = [
    Case { name: "killed", breaks: |redis, _| redis.kill(), mends: |redis, _| redis.restart() },
    Case { name: "hung", breaks: |redis, _| redis.signal("-STOP"), mends: |redis, _| redis.signal("-CONT") },
    Case {
        name: "restarted",
        breaks: |redis, _| {
            redis.kill()?;
            redis.restart()
        },
        mends: |_, _| Ok(()),
    },
    Case {
        name: "slow, 200 ms",
        breaks: |_, wire| {
            wire.delay.store(200, Ordering::SeqCst);
            Ok(())
        },
        mends: |_, wire| {
            wire.delay.store(0, Ordering::SeqCst);
            Ok(())
        },
    },
    Case {
        name: "garbage",
        breaks: |_, wire| {
            wire.is_garbage.store(true, Ordering::SeqCst);
            Ok(())
        },
        mends: |_, wire| {
            wire.is_garbage.store(false, Ordering::SeqCst);
            Ok(())
        },
    },
];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    if let Err(error) = PrivateRedis::start() {
        println!("skipped: this needs a `redis-server` on the path ({error})");
        return Ok(());
    }
    println!("| Redis | when | calls | failed | p50, ms | p99, ms | longest, ms | failed steps | skipped steps |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let cached = CachedTool::new();
    let alone = Load::begin(cached.handle(), &cached.layer(books()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    alone.end("none", &["always"]).await;
    for case in CASES {
        outage(&case).await?;
    }
    Ok(())
}

async fn outage(case: &Case) -> Result<(), Failure> {
    let mut redis = PrivateRedis::start()?;
    let wire = Arc::<Wire>::default();
    let client = match case.name {
        "slow, 200 ms" | "garbage" => proxy(redis.socket(), Arc::clone(&wire)).await?,
        _ => redis::Client::open(format!("redis+unix://{}", redis.socket().display()))?,
    };
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    let level = RedisLevel::new(AnyRedisConnection::from_redis_1(client.get_connection_manager_lazy(config)?))
        .with_subscriber(&RedisConnection::open_redis_1(client.get_connection_info().clone())?);
    let cached = CachedTool::new().with_second_level(level).invalidates("write", ["read"]);
    let load = Load::begin(cached.handle(), &cached.layer(books()));
    for (phase, (_, time)) in PHASES.iter().enumerate() {
        match phase {
            1 => (case.breaks)(&mut redis, &wire)?,
            3 => {
                (case.mends)(&mut redis, &wire)?;
                load.recovers().await?;
            }
            _ => {}
        }
        load.enter(phase);
        tokio::time::sleep(*time).await;
    }
    load.end(case.name, &PHASES.map(|(name, _)| name)).await;
    Ok(())
}

/// Tools that take no time: the layer adds the whole duration of a call.
fn books() -> ScriptedServer {
    ScriptedServer::new("books")
        .with_read_only("read", |_| async { Ok(ToolResult::text("x".repeat(200))) })
        .with_plain("write", |_| async { Ok(ToolResult::text("written")) })
}

/// Callers who read values that are in no memory, and write once in twenty calls, with a millisecond between their
/// calls.
struct Load {
    handle: Handle,
    shared: Arc<Shared>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    phase: AtomicUsize,
    is_over: AtomicBool,
    phases: [Phase; PHASES.len()],
}

#[derive(Default)]
struct Phase {
    times: Mutex<Vec<Duration>>,
    failed: AtomicU32,
    /// The failed and skipped steps of the level at the end.
    failures: AtomicU64,
    skipped: AtomicU64,
}

impl Load {
    fn begin(handle: Handle, server: &Server) -> Self {
        let shared = Arc::<Shared>::default();
        let callers = (0..CALLERS).map(|caller| tokio::spawn(call(caller, server.clone(), Arc::clone(&shared))));
        Self { handle, callers: callers.collect(), shared }
    }

    fn enter(&self, phase: usize) {
        let before = self.shared.phase.swap(phase, Ordering::SeqCst);
        self.note(before);
    }

    fn note(&self, phase: usize) {
        let level = self.handle.stats().second_level.unwrap_or_default();
        self.shared.phases[phase].failures.store(level.failures, Ordering::SeqCst);
        self.shared.phases[phase].skipped.store(level.skipped, Ordering::SeqCst);
    }

    /// Waits until values are shared again.
    async fn recovers(&self) -> Result<(), Failure> {
        let level = || self.handle.stats().second_level.unwrap_or_default();
        let (began, puts) = (Instant::now(), level().puts);
        while level().puts <= puts || level().is_open || !level().is_subscribed {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("it is not used again".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn end(self, name: &str, phases: &[&str]) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.note(self.shared.phase.load(Ordering::SeqCst));
        for caller in self.callers {
            let _ = caller.await;
        }
        let (mut failures, mut skipped) = (0, 0);
        for (phase, numbers) in phases.iter().zip(&self.shared.phases) {
            let mut times = std::mem::take(&mut *numbers.times.lock().unwrap_or_else(PoisonError::into_inner));
            times.sort_unstable();
            let at = |share: f64| {
                let at = (times.len() as f64 * share) as usize;
                times.get(at.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
            };
            let (failed, until) = (numbers.failed.load(Ordering::SeqCst), numbers.failures.load(Ordering::SeqCst));
            let left_out = numbers.skipped.load(Ordering::SeqCst);
            println!(
                "| {name} | {phase} | {} | {failed} | {:.2} | {:.2} | {:.1} | {} | {} |",
                times.len(),
                at(0.5),
                at(0.99),
                at(1.0),
                until - failures,
                left_out - skipped,
            );
            (failures, skipped) = (until, left_out);
        }
    }
}

async fn call(caller: usize, server: Server, shared: Arc<Shared>) {
    let ctx = RequestContext::new();
    for number in caller.. {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let (tool, args) =
            if number % 20 == 0 { ("write", json!({})) } else { ("read", json!({"n": fastrand::u64(..)})) };
        let phase = &shared.phases[shared.phase.load(Ordering::SeqCst)];
        let began = Instant::now();
        let answer = server.call_tool(tool, args, &ctx).await;
        let took = began.elapsed();
        phase.times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        phase.failed.fetch_add(u32::from(outcome::failure(&answer).is_some()), Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
