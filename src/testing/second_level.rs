use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::cached::{Invalidation, Put, Read, SecondLevel};

const TTL: Duration = Duration::from_secs(60);

/// Checks that a [`SecondLevel`] keeps what its documentation promises, and panics where it does not.
///
/// `make_level` is called twice for each check, for two replicas, whose levels have to share what they keep. Every check uses
/// keys of its own.
///
/// ```
/// use mcp_patterns::{cached::MemoryLevel, testing::second_level_contract};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let level = MemoryLevel::new();
/// second_level_contract(|| async { level.clone() }).await;
/// # });
/// ```
pub async fn second_level_contract<L: SecondLevel, F: Future<Output = L>>(make_level: impl Fn() -> F) {
    let pair = || async { (make_level().await, make_level().await) };
    a_value_put_by_one_replica_is_read_by_the_other(pair().await).await;
    a_value_is_replaced_together_with_its_ttl(pair().await).await;
    many_values_of_any_bytes_are_read_back(pair().await).await;
    an_invalidation_is_found_under_its_keys_and_no_others(pair().await).await;
    a_value_loaded_after_an_invalidation_is_current(pair().await).await;
    many_concurrent_invalidations_are_all_kept(pair().await).await;
    the_number_of_an_invalidation_is_read_for_each_of_its_keys(pair().await).await;
    lost_invalidations_make_older_values_unknown(pair().await).await;
    one_of_many_callers_gets_a_lease(pair().await).await;
    a_lease_ends_by_itself_and_has_one_owner(pair().await).await;
    a_subscriber_receives_invalidations(pair().await).await;
}

fn number() -> u64 {
    RandomState::new().hash_one(0)
}

fn key() -> Vec<u8> {
    number().to_le_bytes().to_vec()
}

async fn read(level: &impl SecondLevel, key: &[u8], invalidation_keys: &[u64]) -> Read {
    let read = level.get(key, invalidation_keys).await.unwrap_or_else(|error| panic!("a get failed: {error}"));
    assert_ne!(read.generation.epoch, 0, "the level has a number");
    assert!(read.invalidated <= read.generation.number, "{read:?}");
    read
}

async fn invalidate(level: &impl SecondLevel, origin: u64, invalidation_keys: &[u64]) -> u64 {
    let invalidated = level.invalidate(origin, invalidation_keys).await;
    invalidated.unwrap_or_else(|error| panic!("an invalidation failed: {error}"))
}

async fn raise(level: &impl SecondLevel, key: &[u8], invalidation_keys: &[u64], number: u64) {
    let raised = level.raise(key, invalidation_keys, number).await;
    raised.unwrap_or_else(|error| panic!("a raise failed: {error}"));
}

async fn put(level: &impl SecondLevel, key: &[u8], value: &[u8], ttl: Duration) {
    let put = Put::new(key.to_vec(), value.to_vec(), ttl);
    level.put(&[put]).await.unwrap_or_else(|error| panic!("a put failed: {error}"));
}

async fn a_value_put_by_one_replica_is_read_by_the_other<L: SecondLevel>((one, other): (L, L)) {
    let key = key();
    assert_eq!(read(&other, &key, &[]).await.value, None);
    put(&one, &key, b"value", TTL).await;
    let (value, remaining) = read(&other, &key, &[]).await.value.unwrap_or_default();
    assert_eq!(value, b"value");
    assert!(remaining > TTL / 2 && remaining <= TTL, "{remaining:?} remain");
    assert_eq!(read(&other, &self::key(), &[]).await.value, None, "another key has no value");
}

async fn a_value_is_replaced_together_with_its_ttl<L: SecondLevel>((one, other): (L, L)) {
    let key = key();
    put(&one, &key, b"first", TTL).await;
    put(&other, &key, b"second", 2 * TTL).await;
    let (value, remaining) = read(&one, &key, &[]).await.value.unwrap_or_default();
    assert_eq!(value, b"second");
    assert!(remaining > TTL, "{remaining:?} remain");
    put(&other, &key, b"third", Duration::from_millis(1)).await;
    let is_gone = async {
        while read(&one, &key, &[]).await.value.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(TTL, is_gone).await.is_ok(), "an expired value does not exist");
}

async fn many_values_of_any_bytes_are_read_back<L: SecondLevel>((one, other): (L, L)) {
    let sizes = [0, 1, 100, 10_000, 1_000_000];
    let puts: Vec<_> = sizes
        .iter()
        .map(|size| {
            let bytes = (0..*size).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
            Put::new([key(), vec![0; usize::try_from(*size).unwrap_or_default() / 1000]].concat(), bytes, TTL)
        })
        .collect();
    assert!(one.put(&puts).await.is_ok());
    assert!(one.put(&[]).await.is_ok(), "nothing is put");
    for put in puts {
        let value = read(&other, &put.key, &[]).await.value;
        assert!(value.is_some_and(|(value, _)| value == put.value), "{} bytes came back otherwise", put.value.len());
    }
}

async fn an_invalidation_is_found_under_its_keys_and_no_others<L: SecondLevel>((one, other): (L, L)) {
    let [first, second, untouched] = [number(), number(), number()];
    let keys: Vec<_> = (0..8).map(|_| key()).collect();
    let mut before = Vec::new();
    for key in &keys {
        before.push(read(&one, key, &[]).await.generation);
    }
    invalidate(&other, 1, &[first, second]).await;
    for (key, before) in keys.iter().zip(before) {
        let after = read(&one, key, &[untouched]).await;
        assert_eq!(after.generation.epoch, before.epoch, "the level is the same");
        assert!(after.is_current(before), "what was not invalidated stays: {before:?}, {after:?}");
        for invalidated in [vec![first], vec![second], vec![untouched, second]] {
            let after = read(&one, key, &invalidated).await;
            assert!(!after.is_current(before), "wherever a value is, its invalidation is known: {before:?}, {after:?}");
        }
    }
}

async fn a_value_loaded_after_an_invalidation_is_current<L: SecondLevel>((one, other): (L, L)) {
    let (key, invalidated) = (key(), number());
    for _ in 0..3 {
        let before = read(&one, &key, &[invalidated]).await.generation;
        invalidate(&other, 1, &[invalidated]).await;
        let between = read(&other, &key, &[invalidated]).await;
        assert!(!between.is_current(before), "{before:?}, {between:?}");
        invalidate(&other, 1, &[number()]).await;
        let after = read(&one, &key, &[invalidated]).await;
        assert!(after.is_current(between.generation), "{between:?}, {after:?}");
        assert!(!after.is_current(before), "{before:?}, {after:?}");
    }
}

async fn many_concurrent_invalidations_are_all_kept<L: SecondLevel>((one, other): (L, L)) {
    let (key, keys): (_, Vec<_>) = (key(), (0..100).map(|_| number()).collect());
    let before = read(&one, &key, &keys).await.generation;
    join_all(keys.iter().zip([&one, &other].into_iter().cycle()).map(|(key, level)| async move {
        invalidate(level, 1, &[*key]).await;
    }))
    .await;
    for invalidated in keys {
        let after = read(&one, &key, &[invalidated]).await;
        assert!(!after.is_current(before), "{before:?}, {after:?}");
    }
}

async fn the_number_of_an_invalidation_is_read_for_each_of_its_keys<L: SecondLevel>((one, other): (L, L)) {
    let (invalidated, keys): (_, Vec<_>) = (number(), (0..32).map(|_| key()).collect());
    let taken =
        join_all([&one, &other, &one, &other].map(|level| invalidate(level, 1, std::slice::from_ref(&invalidated))));
    let last = taken.await.into_iter().max().unwrap_or_default();
    for key in &keys {
        let read = read(&one, key, &[invalidated]).await;
        assert!(last <= read.invalidated, "{last} was taken: {read:?}");
        raise(&one, key, &[invalidated], last).await;
        let raised = self::read(&one, key, &[number()]).await;
        assert!(raised.is_current(read.generation), "what it knows is no news: {read:?}, {raised:?}");
    }
}

async fn lost_invalidations_make_older_values_unknown<L: SecondLevel>((one, other): (L, L)) {
    let (key, lost, untouched) = (key(), number(), number());
    let before = read(&one, &key, &[untouched]).await.generation;
    let known = before.number + 1000;
    raise(&one, &key, &[lost], known).await;
    let after = read(&other, &key, &[untouched]).await;
    assert!(!after.is_current(before), "others may be lost, too: {before:?}, {after:?}");
    assert!(after.generation.number > known && after.is_current(after.generation), "it is used again: {after:?}");
    assert!(invalidate(&other, 1, &[lost]).await > known, "no number is taken twice");
    raise(&one, &key, &[lost], known).await;
    assert!(read(&one, &key, &[untouched]).await.is_current(after.generation), "once is enough");
}

async fn one_of_many_callers_gets_a_lease<L: SecondLevel>((one, other): (L, L)) {
    let key = key();
    let acquired = join_all((1..=20).map(|token| if token % 2 == 0 { &one } else { &other }.acquire(&key, token, TTL)));
    let acquired: Vec<_> = acquired.await.into_iter().map(Result::unwrap_or_default).collect();
    assert_eq!(acquired.iter().filter(|acquired| **acquired).count(), 1, "{acquired:?}");
}

async fn a_lease_ends_by_itself_and_has_one_owner<L: SecondLevel>((one, other): (L, L)) {
    let key = key();
    let acquire = |token, lease| {
        let (one, key) = (&one, &key);
        async move { one.acquire(key, token, lease).await.unwrap_or_default() }
    };
    assert!(acquire(1, TTL).await);
    assert!(other.release(&key, 2).await.is_ok());
    assert!(!acquire(2, TTL).await, "only its owner releases it");
    assert!(other.release(&key, 1).await.is_ok());
    assert!(acquire(2, Duration::from_millis(1)).await, "its owner does");
    let is_free = async {
        while !acquire(3, TTL).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(TTL, is_free).await.is_ok(), "it ends by itself");
    assert!(read(&one, &key, &[]).await.value.is_none(), "a lease is no value");
}

async fn a_subscriber_receives_invalidations<L: SecondLevel>((one, other): (L, L)) {
    let subscribed = one.subscribe().await.unwrap_or_else(|error| panic!("a subscription failed: {error}"));
    let Some(mut subscription) = subscribed else { return };
    let (key, keys): (_, Vec<_>) = (key(), (0..1000).map(|_| number()).collect());
    let before = read(&one, &key, &keys).await.generation;
    let origin = number();
    let number = invalidate(&other, origin, &keys).await;
    let told = async {
        loop {
            match subscription.next().await {
                Some(told) if told.origin == origin => return told,
                Some(_) => {}
                None => panic!("the subscription ended"),
            }
        }
    };
    let told = timeout(TTL, told).await.unwrap_or_else(|_| panic!("nothing was received"));
    assert_eq!(told, Invalidation::new(origin, number, keys.clone()));
    for told in [&keys[..1], &keys[999..]] {
        let after = read(&one, &key, told).await;
        assert!(
            !after.is_current(before),
            "the message comes after the invalidation, not before: {before:?}, {after:?}"
        );
    }
}
