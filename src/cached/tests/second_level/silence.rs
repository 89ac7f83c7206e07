//! A Redis that stops answering one replica: its connections stay open and deliver nothing. New ones work.

use super::fleet::*;
use super::in_redis::{patiently, shares};
use super::*;
use crate::cached::RedisLevel;
use crate::testing::Took;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::proxy::Proxy;
use crate::{CachedTool, RedisConnection};

fn level(url: &str) -> RedisLevel {
    let redis = RedisConnection::open(url).expect("an address");
    RedisLevel::new(redis.clone()).with_prefix("test").with_subscriber(&redis)
}

/// A busy machine is no failure of Redis.
fn patient(layer: CachedTool) -> CachedTool {
    layer.with_second_level_timeout(Duration::from_millis(250))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_connections_stop_answering_shares_and_subscribes_again_and_serves_no_stale_value() {
    let redis = PrivateRedis::start_on_request();
    let proxy = Proxy::to(redis.socket()).await;
    let source = at_once();
    let (a, b) = (source.replica(level(&proxy.redis_url()), patient), source.replica(level(&redis.url()), patient));
    for replica in [&a, &b] {
        shares(replica).await;
        patiently(async || replica.level().is_subscribed).await;
    }
    a.read().await;
    proxy.silence();
    let took = Took::begin();
    // From here on, the memory of `a` is stale, and no message can reach it.
    let version = b.write().await;
    patiently(async || !a.level().is_subscribed).await;
    took.until("the subscription ends");
    patiently(async || a.level().is_subscribed).await;
    took.until("invalidations are heard again");
    assert_eq!(a.read().await, version, "whatever it had is not served any more");

    patiently(async || {
        a.read_of(fastrand::u64(..)).await;
        !a.level().is_open
    })
    .await;
    shares(&a).await;
    let key = fastrand::u64(..);
    patiently(async || {
        a.read_of(key).await;
        b.read_of(key).await.1 == "hit"
    })
    .await;
    took.until("answers are shared again");
    let version = b.write().await;
    patiently(async || a.read().await == version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_long_stop_of_redis_values_are_shared_and_invalidations_received_again() {
    let redis = PrivateRedis::start_on_request();
    let replica = at_once().replica(level(&redis.url()), patient);
    shares(&replica).await;
    patiently(async || replica.level().is_subscribed).await;
    redis.hang();
    // Longer than any timeout: the connection is replaced, and attempts to connect fail.
    let skipped = replica.level().skipped;
    patiently(async || {
        replica.read_of(fastrand::u64(..)).await;
        replica.level().skipped > skipped + 50 && !replica.level().is_subscribed
    })
    .await;
    redis.resume();
    shares(&replica).await;
    patiently(async || replica.level().is_subscribed && !replica.level().is_open).await;
}
