//! The cost and the benefit of a second level in Redis. Needs the Redis at `TEST_REDIS_URL`.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench second_level`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcp_patterns::cached::{Cache, Handle, MemoryLevel, RedisLevel};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{AnyRedisConnection, CachedTool, Layer, RedisConnection};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let url = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = redis::Client::open(url)?;
    let connection = client.get_multiplexed_async_connection().await?;
    for callers in [1, 64] {
        second_level_hits(&connection, callers).await?;
    }
    delivery(&client).await?;
    invalidations().await?;
    zipf().await?;
    memory().await
}

/// Runs `call` for each of `keys`, by this many callers at once, and returns calls per second.
async fn throughput<F>(callers: usize, keys: usize, call: impl Fn(usize) -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let began = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let call = call.clone();
            let keys = (caller..keys).step_by(callers);
            tokio::spawn(async move {
                for key in keys {
                    call(key).await;
                }
            })
        })
        .collect();
    for caller in callers {
        let _ = caller.await;
    }
    keys as f64 / began.elapsed().as_secs_f64()
}

/// Values of 200 bytes that only Redis has, compared with a bare `PTTL` and `GET` in one pipeline on the same
/// connection, and with these and the invalidations, which show whether the value is current.
async fn second_level_hits(connection: &MultiplexedConnection, callers: usize) -> Result<(), Failure> {
    const KEYS: usize = 4_000;
    const ROUNDS: usize = 9;
    let prefix = format!("bench:{:x}", fastrand::u64(..));
    let cache = || {
        let level = RedisLevel::new(AnyRedisConnection::from_redis_1(connection.clone())).with_prefix(prefix.clone());
        let minute = Duration::from_secs(60);
        Cache::<String, String>::new()
            .with_second_level("bench", level)
            .with_unsubscribed_ttl(minute)
            .with_second_level_timeout(minute)
    };
    let load = |cache: &Cache<String, String>, key: usize| {
        let cache = cache.clone();
        async move {
            let load = || async move { Ok::<_, McpError>("x".repeat(200)) };
            black_box(cache.get_or_load(&(), key.to_string(), load).await).is_ok()
        }
    };
    let first = cache();
    for key in 0..KEYS {
        load(&first, key).await;
        if key % 500 == 499 {
            while first.stats().second_level.is_some_and(|level| level.puts <= key as u64) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let pattern = format!("{{{prefix}:0}}:v:*");
    let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection.clone()).await?;
    let (names, invalidations) = (Arc::new(names), Arc::new(format!("{{{prefix}:0}}:g")));
    let mut ratios = [const { Vec::new() }; 2];
    let (mut bare, mut whole, mut ours) = (0.0, 0.0, 0.0);
    for _ in 0..ROUNDS {
        let (to, of) = (connection.clone(), Arc::clone(&names));
        let get = move |key: usize| {
            let (mut connection, names) = (to.clone(), Arc::clone(&of));
            async move {
                let name = &names[key % names.len()];
                let got: redis::RedisResult<(i64, Vec<u8>)> =
                    redis::pipe().pttl(name).get(name).query_async(&mut connection).await;
                black_box(got.is_ok());
            }
        };
        bare = throughput(callers, KEYS, get).await;
        let (to, of, invalidations) = (connection.clone(), Arc::clone(&names), Arc::clone(&invalidations));
        let get = move |key: usize| {
            let (mut connection, names, invalidations) = (to.clone(), Arc::clone(&of), Arc::clone(&invalidations));
            async move {
                let name = &names[key % names.len()];
                let members = ["epoch", "last", "floor", "17", "12345"];
                let mut pipeline = redis::pipe();
                pipeline.pttl(name).get(name).cmd("ZMSCORE").arg(&*invalidations).arg(&members);
                let got: redis::RedisResult<(i64, Vec<u8>, [Option<f64>; 5])> =
                    pipeline.query_async(&mut connection).await;
                black_box(got.is_ok());
            }
        };
        whole = throughput(callers, KEYS, get).await;
        let fresh = cache();
        let reading = fresh.clone();
        ours = throughput(callers, KEYS, move |key| {
            let reading = load(&reading, key);
            async move {
                reading.await;
            }
        })
        .await;
        let stats = fresh.stats();
        if stats.loads > 0 {
            println!("{} of {KEYS} were not in the second level", stats.loads);
        }
        ratios[0].push(ours / bare);
        ratios[1].push(ours / whole);
    }
    let [to_bare, to_whole] = ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ROUNDS / 2]
    });
    println!(
        "second-level hit, {callers:>2} callers: bare {bare:>6.0}/s, with invalidations {whole:>6.0}/s, ours {ours:>6.0}/s, \
         median ratios {to_bare:.2} and {to_whole:.2}"
    );
    Ok(())
}

fn users(version: &Arc<AtomicU64>) -> ScriptedServer {
    let (reads, writes) = (Arc::clone(version), Arc::clone(version));
    ScriptedServer::new("users")
        .with_read_only("get_user", move |_| {
            let version = reads.load(Ordering::SeqCst);
            async move { Ok(ToolResult::text(version.to_string())) }
        })
        .with_plain("update_user", move |_| {
            let version = writes.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok(ToolResult::text(version.to_string())) }
        })
}

/// The time from a write's answer on one replica until another replica has received the invalidation.
async fn delivery(client: &redis::Client) -> Result<(), Failure> {
    const WRITES: u64 = 2_000;
    let prefix = format!("bench:{:x}", fastrand::u64(..));
    let version = Arc::new(AtomicU64::new(0));
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let connection = client.get_multiplexed_async_connection().await?;
        let level = RedisLevel::new(AnyRedisConnection::from_redis_1(connection))
            .with_prefix(prefix.clone())
            .with_subscriber(&RedisConnection::open_redis_1(client.get_connection_info().clone())?);
        let layer = CachedTool::new().with_second_level(level).invalidates("update_user", ["get_user"]);
        replicas.push((layer.handle(), layer.layer(users(&version))));
    }
    let heard = |handle: &Handle| handle.stats().second_level.map_or(0, |level| level.invalidations_received);
    let subscribed = |handle: &Handle| handle.stats().second_level.is_some_and(|level| level.is_subscribed);
    while !replicas.iter().all(|(handle, _)| subscribed(handle)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ctx = RequestContext::new();
    let (mut late, mut writes) = (Vec::new(), Vec::new());
    for write in 1..=WRITES {
        let began = Instant::now();
        replicas[0].1.call_tool("update_user", json!({}), &ctx).await?;
        writes.push(began.elapsed());
        let answered = Instant::now();
        while heard(&replicas[1].0) < write {
            tokio::task::yield_now().await;
        }
        late.push(answered.elapsed());
        let read = replicas[1].1.call_tool("get_user", json!({}), &ctx).await?;
        assert_eq!(read.first_text(), Some(write.to_string().as_str()), "a stale read");
    }
    late.sort();
    writes.sort();
    let at = |times: &[Duration], percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("a write that invalidates: median {:?}, p99 {:?}", at(&writes, 50), at(&writes, 99));
    println!("another replica has heard after its answer: median {:?}, p99 {:?}", at(&late, 50), at(&late, 99));
    Ok(())
}

/// The cost of a write by the number of tags that it invalidates, in this process.
async fn invalidations() -> Result<(), Failure> {
    const CALLS: u32 = 50_000;
    for tags in [0, 1, 5] {
        let mut layer = CachedTool::new();
        if tags > 0 {
            layer = layer.invalidates_tags("update_user", move |_| (0..tags).map(|tag| format!("tag:{tag}")));
        }
        let server = layer.layer(users(&Arc::default()));
        let ctx = RequestContext::new();
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(server.call_tool("update_user", json!({}), &ctx).await?);
        }
        println!("a write that invalidates {tags} tags: {:?}", began.elapsed() / CALLS);
    }
    Ok(())
}

/// 200,000 reads of 20,000 keys in a Zipf distribution, by two replicas of 2,000 entries each.
async fn zipf() -> Result<(), Failure> {
    const KEYS: usize = 20_000;
    const READS: usize = 200_000;
    let mut sums = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    let trace = || {
        let mut chance = fastrand::Rng::with_seed(1);
        let sums = &sums;
        (0..READS).map(move |_| sums.partition_point(|sum| *sum < chance.f64() * sums[KEYS - 1]).min(KEYS - 1))
    };
    let alone: Vec<_> = (0..2).map(|_| moka::sync::Cache::<usize, usize>::new(2_000)).collect();
    let mut loads = 0;
    for (at, key) in trace().enumerate() {
        alone[at % 2].get_with(key, || {
            loads += 1;
            key
        });
    }
    println!("Zipf, moka alone: {:.3} of the reads are hits, {loads} loads", 1.0 - loads as f64 / READS as f64);
    let level = MemoryLevel::new();
    let ours: Vec<_> = (0..2)
        .map(|_| Cache::<usize, usize>::new().with_max_entries(2_000).with_second_level("zipf", level.clone()))
        .collect();
    for (at, key) in trace().enumerate() {
        let _ = ours[at % 2].get_or_load(&(), key, || async move { Ok::<_, McpError>(key) }).await;
    }
    let loads: u64 = ours.iter().map(|cache| cache.stats().loads).sum();
    let hits: u64 = ours.iter().map(|cache| cache.stats().hits).sum();
    println!(
        "Zipf, with a second level: {:.3} hits of the first, {:.3} of both, {loads} loads",
        hits as f64 / READS as f64,
        1.0 - loads as f64 / READS as f64
    );
    Ok(())
}

/// The memory for 100,000 entries of a number, by the resident set of the process.
async fn memory() -> Result<(), Failure> {
    const ENTRIES: u64 = 100_000;
    let resident = || -> Result<u64, Failure> {
        let status = std::fs::read_to_string("/proc/self/statm")?;
        Ok(status.split_whitespace().nth(1).unwrap_or_default().parse::<u64>()? * 4096)
    };
    let cache = Cache::<u64, u64>::new().with_max_entries(2 * ENTRIES as usize);
    let before = resident()?;
    for key in 0..ENTRIES {
        let _ = cache.get_or_load(&(), key, || async move { Ok::<_, McpError>(key) }).await;
    }
    let entries = cache.stats().entries;
    println!("memory: {} bytes for each of {entries} entries", (resident()? - before) / entries.max(1));
    Ok(())
}
