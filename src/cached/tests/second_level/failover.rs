//! A Redis that fails over to a lagging replica, or restarts from an old snapshot: it loses invalidations.

use super::fleet::*;
use super::in_redis::{manager, on_manager, patiently, prefix, shares, to};
use super::model::{Bounds, modelled};
use super::*;
use crate::CachedTool;
use crate::cached::SecondLevel;
use crate::testing::private_redis::{PrivateRedis, Replicated};

/// Two servers that share a Redis. Subscribed servers trust their memory for a long time, the others only briefly.
fn fleet<const N: usize>(source: &Source, client: &redis::Client, hears: bool) -> [Replica; N] {
    let patient =
        |layer: CachedTool| layer.with_second_level_timeout(5 * SECOND).with_unsubscribed_ttl(Duration::from_millis(1));
    [(); N].map(|()| {
        let level = on_manager(client).with_prefix("test");
        let level = if hears { level.with_subscriber(&to(client)) } else { level };
        source.replica(level, patient)
    })
}

/// Reads, once the level answers: a connection recovers soon, but not at once.
async fn reads(replica: &Replica) -> (u64, String, u64) {
    patiently(async || {
        let before = replica.level();
        replica.read_of(fastrand::u64(..)).await;
        let now = replica.level();
        now.hits + now.misses > before.hits + before.misses
    })
    .await;
    replica.read_with_status().await
}

async fn is_told(replica: &Replica) {
    patiently(async || replica.level().pending_invalidations == 0).await;
}

async fn two_servers_lose_the_write_of_the_first(
    hears: bool,
    loses: impl AsyncFnOnce(&Replica, &Source),
    client: redis::Client,
) {
    let source = at_once();
    let [a, b] = fleet(&source, &client, hears);
    patiently(async || [&a, &b].iter().all(|replica| replica.level().is_subscribed == hears)).await;
    assert_eq!(a.read().await, 0);
    shares(&a).await;
    assert_eq!(reads(&b).await, found(0, "hit", 2));
    loses(&a, &source).await;
    let loads = source.loads();
    assert_eq!(reads(&a).await, found(1, "miss", 0), "the writer does not return an older value");
    shares(&a).await;
    assert_eq!(reads(&b).await.0, 1, "nor does the other, once a replica that knows has read");
    assert!(loads < source.loads());
    let [c] = fleet(&source, &client, hears);
    assert_eq!(reads(&c).await, found(1, "hit", 2), "the level is used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_to_a_lagging_replica_no_cache_returns_a_value_it_knows_to_be_stale_and_the_level_is_used() {
    for hears in [true, false] {
        let mut redis = Replicated::start();
        let client = redis.client();
        let loses = async |a: &Replica, _: &Source| {
            redis.fall_behind();
            a.write().await;
            is_told(a).await;
            redis.fail_over();
        };
        two_servers_lose_the_write_of_the_first(hears, loses, client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_from_an_old_snapshot_no_cache_returns_a_value_it_knows_to_be_stale_and_the_level_is_used() {
    for hears in [true, false] {
        let mut redis = PrivateRedis::start_on_request();
        let client = redis.client();
        let loses = async |a: &Replica, _: &Source| {
            redis.command(&["SAVE"]);
            a.write().await;
            is_told(a).await;
            redis.kill();
            redis.restart();
        };
        two_servers_lose_the_write_of_the_first(hears, loses, client).await;
    }
}

/// A process that never received the lost invalidation takes a larger number before any process that received it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_hidden_by_a_later_invalidation_makes_no_cache_return_a_stale_value() {
    for hears in [true, false] {
        let mut redis = Replicated::start();
        let client = redis.client();
        let loses = async |a: &Replica, _: &Source| {
            redis.fall_behind();
            a.write().await;
            is_told(a).await;
            redis.fail_over();
            let stranger = on_manager(&client).with_prefix("test");
            patiently(async || stranger.invalidate(7, &[7]).await.is_ok()).await;
        };
        two_servers_lose_the_write_of_the_first(hears, loses, client.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_restored_to_an_earlier_epoch_does_not_revive_its_values() {
    let redis = PrivateRedis::start_on_request();
    let source = at_once();
    let [a, b] = fleet(&source, &redis.client(), false);
    assert_eq!(a.read().await, 0);
    shares(&a).await;
    redis.command(&["SAVE"]);
    // The set is evicted: all stored values are unknown, and so are all invalidations.
    redis.command(&["DEL", "{test:0}:g"]);
    source.version.store(1, Ordering::SeqCst);
    assert_eq!(reads(&b).await.0, 1);
    // By now, b has replaced the old value.
    shares(&b).await;
    redis.command(&["DEBUG", "RELOAD", "NOSAVE"]);
    let [c] = fleet(&source, &redis.client(), false);
    assert_eq!(reads(&c).await.0, 0, "a replica without the invalidation is stale");
    assert_eq!(reads(&b).await.0, 1);
    let [d] = fleet(&source, &redis.client(), false);
    assert_eq!(reads(&d).await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_lost_invalidations_starts_a_new_epoch_and_the_others_keep_their_values() {
    let redis = PrivateRedis::start_on_request();
    let level = on_manager(&redis.client()).with_prefix(prefix());
    let level = level.with_shards(4);
    let keys: Vec<_> = (0_u64..64).map(u64::to_le_bytes).collect();
    let generations = async || {
        let mut generations = Vec::new();
        for key in &keys {
            generations.push(level.get(key, &[9]).await.expect("an answer"));
        }
        generations
    };
    generations().await;
    redis.command(&["SAVE"]);
    let number = level.invalidate(1, &[9]).await.expect("a number");
    let before = generations().await;
    assert!(before.iter().all(|read| read.invalidated == number), "one number in all shards: {before:?}");
    // Only the first shard is restored to an old state.
    redis.command(&[
        "EVAL",
        "for _, key in ipairs(redis.call('KEYS', '*:0}:g')) do redis.call('ZADD', key, 5, 'last', 5, 'epoch') end",
        "0",
    ]);
    let after = generations().await;
    let is_kept = |at: usize| after[at].is_current(before[at].generation);
    let kept = (0..keys.len()).filter(|at| is_kept(*at)).count();
    assert!((24..64).contains(&kept), "three shards of four: {kept}");
    let anew = after.iter().filter(|read| read.invalidated > number).count();
    assert_eq!(anew + kept, keys.len(), "the numbers go on behind the last that was known: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_random_restarts_no_cache_that_sent_or_received_an_invalidation_returns_a_stale_value() {
    const MILLI: Duration = Duration::from_millis(1);
    let redis = PrivateRedis::start_on_request();
    let client = redis.client();
    let mut chance = fastrand::Rng::with_seed(13);
    let bounds = Bounds {
        ttl: 300 * MILLI,
        first_level_ttl: 40 * MILLI,
        unsubscribed_ttl: 20 * MILLI,
        untold: 600 * SECOND,
        forgets: true,
    };
    let (fleet, mut model) =
        modelled(Source::that_takes(MILLI), false, bounds, || on_manager(&client).with_subscriber(&to(&client)));
    patiently(async || fleet.replicas.iter().all(|replica| replica.level().is_subscribed)).await;
    let (admin, mut set_back) = (manager(&client), 0);
    for _ in 0..1_500 {
        let command: &[&str] = match chance.u8(0..100) {
            0..8 => &["SAVE"],
            8..16 => &["DEBUG", "RELOAD", "NOSAVE"],
            _ => &[],
        };
        set_back += u32::from(command.len() == 3);
        let (after, mut admin) = (MILLI.mul_f64(2.0 * chance.f64()), admin.clone());
        let beside = async move {
            let Some((name, args)) = command.split_first() else { return };
            tokio::time::sleep(after).await;
            // Without a snapshot there is no old state to restore.
            let _ = redis::cmd(name).arg(args).query_async::<redis::Value>(&mut admin).await;
        };
        model.round(&mut chance, &fleet, beside).await;
    }
    model.seen.is_enough(&fleet);
    assert!(set_back > 50, "{set_back} setbacks");
}

/// A replica that did not receive the invalidation has read an old value, and trusts it for a long time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_read_from_a_level_that_lost_invalidations_are_dropped_when_the_loss_is_detected() {
    let redis = PrivateRedis::start_on_request();
    let (source, client) = (at_once(), redis.client());
    let [a] = fleet(&source, &client, true);
    patiently(async || a.level().is_subscribed).await;
    assert_eq!(a.read().await, 0);
    shares(&a).await;
    redis.command(&["SAVE"]);
    a.write().await;
    is_told(&a).await;
    redis.command(&["DEBUG", "RELOAD", "NOSAVE"]);
    let [b] = fleet(&source, &client, true);
    patiently(async || b.level().is_subscribed).await;
    assert_eq!(
        (b.read().await, b.read_with_status().await),
        (0, found(0, "hit", 1)),
        "a replica without the invalidation is stale"
    );
    assert_eq!(a.read().await, 1);
    patiently(async || b.read().await == 1).await;
}
