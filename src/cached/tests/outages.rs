//! A Redis that is killed, hung, slow, full or something else: no call fails.

use std::io::Write;
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::*;
use crate::cached::{Handle, RedisLevel, SecondLevelStats};
use crate::testing::private_redis::PrivateRedis;
use crate::testing::second_level_contract;
use crate::{CachedTool, Layer, Layered, Scope};

fn manager(client: &redis::Client) -> ConnectionManager {
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    client.get_connection_manager_lazy(config).expect("a manager")
}

fn prefix() -> String {
    format!("mcp-patterns-test:{:016x}", fastrand::u64(..))
}

struct Replica {
    server: Layered<CachedTool, ScriptedServer>,
    handle: Handle,
    script: ScriptedServer,
}

fn replica<C>(level: RedisLevel<C>) -> Replica
where
    C: redis::aio::ConnectionLike + Clone + Send + Sync + 'static,
{
    let version = Arc::new(AtomicU64::new(0));
    let reads = Arc::clone(&version);
    let script = ScriptedServer::new("library")
        .with_read_only("read", move |_| {
            let version = reads.load(Ordering::SeqCst);
            async move { Ok(ToolResult::text(version.to_string())) }
        })
        .with_plain("write", move |_| {
            let version = version.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok(ToolResult::text(version.to_string())) }
        });
    let layer = CachedTool::new().with_scope(Scope::Public).with_second_level(level).invalidates("write", ["read"]);
    Replica { handle: layer.handle(), server: layer.layer(script.clone()), script }
}

impl Replica {
    /// Calls that no memory has the answer of, some at the same time, and a write among them that is read at once.
    async fn load(&self) {
        for _ in 0..20 {
            let written = answer(&self.server, "write", json!({}), &nobody()).await;
            let ctx = nobody();
            let reads = (0..5).map(|_| answer(&self.server, "read", json!({"n": fastrand::u64(..)}), &ctx));
            for read in join_all(reads).await {
                assert_eq!(read, written);
            }
        }
    }

    fn level(&self) -> SecondLevelStats {
        self.handle.stats().second_level.expect("there is one")
    }

    /// Waits until values are shared again.
    async fn recovers(&self) {
        let before = self.level().puts;
        patiently(async || {
            let _ = answer(&self.server, "read", json!({"n": fastrand::u64(..)}), &nobody()).await;
            self.level().puts > before && self.level().untold_domains == 0
        })
        .await;
    }
}

async fn patiently(mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it takes too long");
}

/// How a Redis is broken, and mended if it can be.
struct Case {
    name: &'static str,
    breaks: fn(&mut PrivateRedis),
    mends: Option<fn(&mut PrivateRedis)>,
}

fn command(redis: &PrivateRedis, args: &[&str]) {
    let mut connection = redis.client().get_connection().expect("a connection");
    let mut command = redis::cmd(args[0]);
    args[1..].iter().for_each(|arg| {
        command.arg(*arg);
    });
    command.query::<redis::Value>(&mut connection).expect("an answer");
}

fn overwrite_generations(redis: &mut PrivateRedis) {
    command(redis, &["SET", "{test:0}:g", "no hash"]);
}

const CASES: [Case; 7] = [
    Case { name: "killed", breaks: PrivateRedis::kill, mends: Some(PrivateRedis::restart) },
    Case { name: "hung", breaks: |redis| redis.hang(), mends: Some(|redis| redis.resume()) },
    Case {
        name: "restarted",
        breaks: |redis| {
            redis.kill();
            redis.restart();
        },
        mends: Some(|_| {}),
    },
    Case {
        name: "out of memory",
        breaks: |redis| {
            command(redis, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            command(redis, &["CONFIG", "SET", "maxmemory", "1"]);
        },
        mends: Some(|redis| command(redis, &["CONFIG", "SET", "maxmemory", "0"])),
    },
    Case {
        name: "read-only replica",
        breaks: |redis| command(redis, &["REPLICAOF", "127.0.0.1", "1"]),
        mends: Some(|redis| command(redis, &["REPLICAOF", "NO", "ONE"])),
    },
    Case { name: "without scripts", breaks: |redis| command(redis, &["SCRIPT", "FLUSH"]), mends: Some(|_| {}) },
    Case {
        name: "of the wrong type",
        breaks: overwrite_generations,
        mends: Some(|redis| command(redis, &["DEL", "{test:0}:g"])),
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_redis_breaks_no_call_fails_and_it_is_used_again_by_itself() {
    for case in CASES {
        let mut redis = PrivateRedis::start();
        let level = RedisLevel::new(manager(&redis.client())).with_prefix("test").with_subscriber(redis.client());
        let replica = replica(level);
        replica.recovers().await;
        patiently(async || replica.level().is_subscribed).await;
        let before = replica.level();
        (case.breaks)(&mut redis);
        replica.load().await;
        let after = replica.level();
        let failures = after.failures - before.failures;
        // Each breaker opens after five in a row. Those already begun at the same time fail too.
        assert!(failures <= 24, "{}: {failures} steps failed", case.name);
        assert_eq!(replica.script.calls("write"), 20, "{}", case.name);
        if let Some(mends) = case.mends {
            mends(&mut redis);
            replica.recovers().await;
        }
        println!("{:<20} {failures:>3} steps failed, {:>4} skipped", case.name, after.skipped - before.skipped);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_rubbish_fails_no_call() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || while stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n$5\r\nabc").is_ok() {});
        }
    });
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address");
    let replica = replica(RedisLevel::new(manager(&client)).with_subscriber(client));
    replica.load().await;
    assert!((1..=24).contains(&replica.level().failures), "{:?}", replica.level());
}

/// Passes bytes on after a delay that the test sets.
async fn slow_proxy(redis: &PrivateRedis, delay: Arc<AtomicU64>) -> redis::Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let socket = redis.url().replace("redis+unix://", "");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::UnixStream::connect(&socket).await.expect("Redis");
            let (delay, (from_near, to_near), (from_far, to_far)) =
                (Arc::clone(&delay), near.into_split(), far.into_split());
            tokio::spawn(pass_on(from_near, to_far, Arc::default()));
            tokio::spawn(pass_on(from_far, to_near, delay));
        }
    });
    redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address")
}

async fn pass_on(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    delay: Arc<AtomicU64>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        tokio::time::sleep(Duration::from_millis(delay.load(Ordering::SeqCst))).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_fails_no_call_and_is_used_again_when_it_is_fast() {
    let redis = PrivateRedis::start();
    let delay = Arc::new(AtomicU64::new(0));
    let client = slow_proxy(&redis, Arc::clone(&delay)).await;
    let replica = replica(RedisLevel::new(manager(&client)).with_subscriber(client));
    replica.recovers().await;
    let before = replica.level().failures;
    delay.store(200, Ordering::SeqCst);
    replica.load().await;
    assert!(replica.level().is_open && replica.level().failures - before <= 24, "{:?}", replica.level());
    delay.store(0, Ordering::SeqCst);
    replica.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_in_redis_keeps_the_contract() {
    let redis = PrivateRedis::start();
    let level = RedisLevel::new(manager(&redis.client())).with_subscriber(redis.client()).with_compression_above(1000);
    second_level_contract(|| async { level.clone() }).await;
    let level = level.with_prefix(prefix()).with_shards(NonZeroU16::new(7).expect("not zero"));
    second_level_contract(|| async { level.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_were_evicted_never_come_back() {
    use crate::cached::SecondLevel;
    let redis = PrivateRedis::start();
    let mut connection = manager(&redis.client());
    let level = RedisLevel::new(connection.clone()).with_prefix("test");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let read = level.get(b"key", &[1, 2]).await.expect("an answer");
        assert!(seen.insert(read.generations), "{seen:?}");
        let _: () = connection.del("{test:0}:g").await.expect("an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_in_redis_is_loaded_anew() {
    let redis = PrivateRedis::start();
    let mut connection = manager(&redis.client());
    let replica = replica(RedisLevel::new(connection.clone()).with_prefix("test"));
    replica.recovers().await;
    let keys: Vec<String> = connection.keys("{test:0}:v:*").await.expect("keys");
    for key in keys {
        let _: () = connection.append(key, "x").await.expect("an answer");
    }
    replica.load().await;
    assert_eq!(replica.level().failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_one_redis_hear_of_each_others_writes_and_load_once_with_a_lease() {
    let redis = PrivateRedis::start();
    let level = || RedisLevel::new(manager(&redis.client())).with_subscriber(redis.client());
    let loads = Arc::new(AtomicU64::new(0));
    let server = || {
        let loads = Arc::clone(&loads);
        let script = ScriptedServer::new("library")
            .with_read_only("read", move |_| {
                let load = loads.fetch_add(1, Ordering::SeqCst) + 1;
                async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(ToolResult::text(load.to_string()))
                }
            })
            .with_plain("write", |_| async { Ok(ToolResult::text("written")) });
        let layer = CachedTool::new()
            .with_second_level(level())
            .with_second_level_timeout(Duration::from_secs(5))
            .with_lease(Duration::from_secs(20))
            .invalidates("write", ["read"]);
        (layer.handle(), layer.layer(script))
    };
    let ((a_handle, a), (b_handle, b)) = (server(), server());
    let stats = |handle: &Handle| handle.stats().second_level.expect("there is one");
    patiently(async || stats(&a_handle).is_subscribed && stats(&b_handle).is_subscribed).await;
    let callers = (0..5_000).map(|caller| {
        let server = if caller % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { read(&server).await })
    });
    for answer in join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(answer.expect("an answer"), "1");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    answer(&a, "write", json!({}), &nobody()).await;
    assert_eq!(read(&a).await, "2", "on the replica that wrote, at once");
    patiently(async || stats(&b_handle).invalidations_heard == 1).await;
    assert_eq!(read(&b).await, "2", "on the other, once it has heard");
}

/// Three masters that know each other.
struct Cluster(Vec<(Child, u16)>, std::path::PathBuf);

impl Cluster {
    async fn start() -> Self {
        let dir = std::env::temp_dir().join(prefix().replace(':', "-"));
        let masters = (0..3).map(|_| {
            let port = (0..).map(|_| fastrand::u16(20_000..45_000)).find(|port| {
                TcpListener::bind(("127.0.0.1", *port)).is_ok()
                    && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok()
            });
            let port = port.expect("a port");
            let dir = dir.join(port.to_string());
            std::fs::create_dir_all(&dir).expect("a directory");
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--cluster-enabled", "yes", "--save", ""])
                .current_dir(&dir)
                .stdout(Stdio::null())
                .spawn();
            (child.expect("redis-server is installed"), port)
        });
        let cluster = Self(masters.collect(), dir);
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        let mut connections = Vec::new();
        for (_, port) in &cluster.0 {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address");
            patiently(async || client.get_connection().is_ok()).await;
            connections.push(client.get_connection().expect("a connection"));
        }
        for (connection, (first, last)) in connections.iter_mut().zip(slots) {
            let mut command = redis::cmd("CLUSTER");
            command.arg("ADDSLOTSRANGE").arg(first).arg(last);
            command.exec(connection).expect("slots");
        }
        for (_, port) in &cluster.0[1..] {
            redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(*port).exec(&mut connections[0]).expect("a meeting");
        }
        patiently(async || {
            connections.iter_mut().all(|connection| {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(connection).expect("an answer");
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        })
        .await;
        cluster
    }

    fn url(&self, at: usize) -> String {
        format!("redis://127.0.0.1:{}", self.0[at].1)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_masters_keeps_the_contract() {
    let cluster = Cluster::start().await;
    let urls: Vec<_> = (0..3).map(|at| cluster.url(at)).collect();
    let client = redis::cluster::ClusterClient::new(urls).expect("a client");
    let connection = client.get_async_connection().await.expect("a connection");
    let subscriber = redis::Client::open(cluster.url(2)).expect("an address");
    let level = RedisLevel::new(connection).with_subscriber(subscriber);
    second_level_contract(|| async { level.clone() }).await;
    let level = level.with_prefix(prefix()).with_shards(NonZeroU16::new(16).expect("not zero"));
    second_level_contract(|| async { level.clone() }).await;
    let replica = replica(level);
    replica.recovers().await;
    replica.load().await;
    assert_eq!(replica.level().failures, 0);
}
