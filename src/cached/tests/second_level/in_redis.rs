//! A second level in Redis without faults.

use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::fleet::*;
use super::*;
use crate::cached::{Handle, Put, RedisLevel};
use crate::testing::private_redis::PrivateRedis;
use crate::testing::second_level_contract;
use crate::{AnyRedisConnection, CachedTool, Layer, RedisConnection};

/// Returns a connection to the same server, for a subscriber.
pub(in crate::cached::tests) fn to(client: &redis::Client) -> RedisConnection {
    RedisConnection::open_redis_1(client.get_connection_info().clone()).expect("an address")
}

pub(in crate::cached::tests) fn manager(client: &redis::Client) -> ConnectionManager {
    let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(100));
    client.get_connection_manager_lazy(config).expect("a manager")
}

/// A level on the connection manager of redis 1.
pub(in crate::cached::tests) fn on_manager(client: &redis::Client) -> RedisLevel {
    RedisLevel::new(AnyRedisConnection::from_redis_1(manager(client)))
}

pub(in crate::cached::tests) fn prefix() -> String {
    format!("mcp-patterns-test:{:016x}", fastrand::u64(..))
}

pub(in crate::cached::tests) fn command(redis: &PrivateRedis, args: &[&str]) {
    redis.command(args);
}

/// Waits for a condition of the test, and names the place if it times out.
#[track_caller]
pub(in crate::cached::tests) fn patiently(mut done: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let wait = async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_done = tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok();
        assert!(is_done, "it takes too long, at {place}");
    }
}

/// Waits until a value that `replica` has loaded is shared, and no invalidation is unsent.
pub(in crate::cached::tests) async fn shares(replica: &Replica) {
    let before = replica.level().puts;
    patiently(async || {
        replica.read_of(fastrand::u64(..)).await;
        let level = replica.level();
        level.puts > before && level.pending_invalidations == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_in_redis_passes_the_contract_suite() {
    let redis = PrivateRedis::start();
    let level = on_manager(&redis.client()).with_subscriber(&to(&redis.client())).with_compression_above(1000);
    second_level_contract(|| async { level.clone() }).await;
    let level = level.with_prefix(prefix()).with_shards(7);
    second_level_contract(|| async { level.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicted_invalidations_make_all_values_unknown() {
    use crate::cached::SecondLevel;
    let redis = PrivateRedis::start();
    let mut connection = manager(&redis.client());
    let level = RedisLevel::new(AnyRedisConnection::from_redis_1(connection.clone())).with_prefix("test");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let read = level.get(b"key", &[1, 2]).await.expect("an answer");
        assert!(seen.insert(read.generation.epoch), "{seen:?}");
        let _: () = connection.del("{test:0}:g").await.expect("an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_damaged_in_redis_is_loaded_again() {
    let redis = PrivateRedis::start();
    let mut connection = manager(&redis.client());
    // A busy machine is no failure of Redis.
    let patient = |layer: CachedTool| layer.with_second_level_timeout(Duration::from_secs(5));
    let replica = at_once()
        .replica(RedisLevel::new(AnyRedisConnection::from_redis_1(connection.clone())).with_prefix("test"), patient);
    replica.read_of(1).await;
    shares(&replica).await;
    let keys: Vec<String> = connection.keys("{test:0}:v:*").await.expect("keys");
    for key in keys {
        let _: () = connection.append(key, "x").await.expect("an answer");
    }
    replica.handle.clear();
    patiently(async || replica.level().pending_invalidations == 0).await;
    assert_eq!(replica.read_of(1).await.1, "miss");
    assert_eq!(replica.level().failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_one_redis_receive_each_others_invalidations_and_load_once_with_a_lease() {
    let redis = PrivateRedis::start();
    let level = || on_manager(&redis.client()).with_subscriber(&to(&redis.client()));
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
    patiently(async || stats(&b_handle).invalidations_received == 1).await;
    assert_eq!(read(&b).await, "2", "on the other, once it has received it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_with_other_prefixes_share_no_values_and_no_invalidations() {
    use crate::cached::SecondLevel;
    let redis = PrivateRedis::start();
    let [one, two] = [(); 2].map(|()| on_manager(&redis.client()).with_prefix(prefix()));
    one.put(&[Put::new(b"key".to_vec(), b"value".to_vec(), MINUTE)]).await.expect("an answer");
    let before = two.get(b"key", &[7]).await.expect("an answer");
    assert_eq!(before.value, None);
    one.invalidate(1, &[7]).await.expect("an answer");
    assert_eq!(two.get(b"key", &[7]).await.expect("an answer").invalidated, before.invalidated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_a_bounded_number_of_invalidations_and_none_is_lost() {
    use crate::cached::SecondLevel;
    const KNOWN: u64 = 65_536;
    let redis = PrivateRedis::start();
    let mut connection = manager(&redis.client());
    let level = RedisLevel::new(AnyRedisConnection::from_redis_1(connection.clone())).with_prefix("test");
    let generation = async || level.get(b"key", &[]).await.expect("an answer").generation;
    let current =
        async |generation, keys: &[u64]| level.get(b"key", keys).await.expect("an answer").is_current(generation);
    let invalidate = async |keys: std::ops::Range<u64>| {
        for chunk in keys.collect::<Vec<_>>().chunks(4_096) {
            level.invalidate(1, chunk).await.expect("an answer");
        }
    };
    let (untouched, old) = (u64::MAX, generation().await);
    invalidate(0..KNOWN).await;
    let late = generation().await;
    assert!(current(old, &[untouched]).await, "nothing is forgotten yet");
    assert!(!current(old, &[0]).await && !current(old, &[KNOWN - 1]).await);
    invalidate(0..4_096).await;
    assert!(current(old, &[untouched]).await, "a key that is invalidated again takes no room");
    invalidate(KNOWN..KNOWN + 5_000).await;
    let members: u64 = connection.zcard("{test:0}:g").await.expect("an answer");
    assert_eq!(members, KNOWN + 3);
    let bytes: u64 =
        redis::cmd("MEMORY").arg(&["USAGE", "{test:0}:g"]).query_async(&mut connection).await.expect("bytes");
    println!("{bytes} bytes for {members} members");
    for forgotten in [4_096, 9_000] {
        assert!(!current(old, &[forgotten]).await, "what is forgotten makes older values unknown");
    }
    assert!(!current(old, &[untouched]).await, "so also values that were not invalidated");
    assert!(current(late, &[untouched]).await && current(late, &[20_000]).await, "younger ones are not concerned");
    assert!(!current(late, &[0]).await && !current(late, &[KNOWN + 1]).await);
}
