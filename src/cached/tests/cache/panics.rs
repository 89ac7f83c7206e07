//! Panics of the user's code in the background: the work continues, and the cache trusts no value while it receives no
//! invalidations.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::sleep;
use turbomcp_core::McpError;

use super::*;
use crate::cached::{Cache, LevelError, MemoryLevel, Put, Read, SecondLevel, SecondLevelStats, Subscription};
use crate::testing::Traced;

const SECOND: Duration = Duration::from_secs(1);

fn panics<T>() -> T {
    std::panic::resume_unwind(Box::new("a bug of the level"))
}

/// How often each step of a level panics before it works.
#[derive(Debug, Default)]
struct Bugs {
    put: AtomicUsize,
    invalidate: AtomicUsize,
    subscribe: AtomicUsize,
    /// Panics when a message is received.
    hear: AtomicUsize,
    /// Fails with an error whose text cannot be formatted.
    unspeakable: AtomicUsize,
}

fn is_due(bugs: &AtomicUsize) -> bool {
    bugs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[derive(Clone)]
struct Buggy(MemoryLevel, Arc<Bugs>);

#[derive(Debug)]
struct Unspeakable;

impl std::error::Error for Unspeakable {}

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panics()
    }
}

#[async_trait]
impl SecondLevel for Buggy {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        self.0.get(key, keys).await
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        if is_due(&self.1.put) { panics() } else { self.0.put(values).await }
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        if is_due(&self.1.invalidate) {
            panics::<()>();
        }
        if is_due(&self.1.unspeakable) {
            return Err(LevelError::new(Unspeakable));
        }
        self.0.invalidate(origin, keys).await
    }

    async fn raise(&self, key: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        self.0.raise(key, keys, number).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        self.0.acquire(key, token, lease).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.0.release(key, token).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        if is_due(&self.1.subscribe) {
            panics::<()>();
        }
        let bugs = Arc::clone(&self.1);
        let heard = self.0.subscribe().await?.map(|subscription| {
            subscription.map(move |heard| if is_due(&bugs.hear) { panics() } else { heard }).boxed() as Subscription
        });
        Ok(heard)
    }
}

type Replica = Cache<String, u64>;

/// A replica, and a replica whose level has bugs. The second receives the invalidations of the first.
async fn two(bugs: &Arc<Bugs>) -> [Replica; 2] {
    let level = MemoryLevel::new();
    let a = Cache::new().with_second_level("books", level.clone());
    let b = Cache::new().with_second_level("books", Buggy(level, Arc::clone(bugs)));
    for cache in [&a, &b] {
        cache.start();
    }
    settle().await;
    [a, b]
}

async fn ask(cache: &Replica, key: &str, value: u64) -> u64 {
    cache.get_or_load(&(), key.to_owned(), || async move { Ok::<_, McpError>(value) }).await.expect("a value")
}

fn level(cache: &Replica) -> SecondLevelStats {
    cache.stats().second_level.expect("there is one")
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_put_does_not_stop_a_replica_from_receiving_invalidations() {
    let bugs = Arc::new(Bugs { put: 3.into(), ..Bugs::default() });
    let [a, b] = two(&bugs).await;
    for key in ["dune", "emma", "ulysses", "moby dick"] {
        ask(&b, key, 1).await;
        settle().await;
    }
    assert!(level(&b).is_subscribed);
    assert_eq!((level(&b).puts, level(&b).failures), (1, 3), "each is a failure of the level");
    a.invalidate(&"dune".to_owned());
    settle().await;
    assert_eq!(ask(&b, "dune", 2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_panicked_in_the_level_is_sent_again() {
    let bugs = Arc::new(Bugs { invalidate: 2.into(), ..Bugs::default() });
    let [a, b] = two(&bugs).await;
    ask(&a, "dune", 1).await;
    b.invalidate(&"dune".to_owned());
    sleep(SECOND).await;
    assert_eq!((level(&b).pending_invalidations, ask(&a, "dune", 2).await), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_panics_is_detected_and_started_again() {
    let bugs = Arc::new(Bugs { hear: 1.into(), subscribe: 1.into(), ..Bugs::default() });
    let [a, b] = two(&bugs).await;
    assert!(!level(&b).is_subscribed, "it has panicked as it began");
    sleep(SECOND).await;
    assert!(level(&b).is_subscribed, "and has begun again");
    ask(&b, "dune", 1).await;
    a.invalidate(&"dune".to_owned());
    settle().await;
    assert!(!level(&b).is_subscribed, "it panicked when it received a message");
    sleep(SECOND).await;
    assert!(level(&b).is_subscribed);
    assert_eq!(ask(&b, "dune", 2).await, 2, "what it may have missed is not trusted");
}

#[tokio::test(start_paused = true)]
async fn background_work_that_panics_starts_again_and_is_logged_at_a_limited_rate() {
    let traced = Traced::start();
    let bugs = Arc::new(Bugs { unspeakable: 1.into(), ..Bugs::default() });
    let [_a, b] = two(&bugs).await;
    b.invalidate(&"dune".to_owned());
    settle().await;
    assert_eq!((level(&b).pending_invalidations, level(&b).is_subscribed), (1, true));
    sleep(SECOND).await;
    assert_eq!(level(&b).pending_invalidations, 0);
    let text = traced.text();
    assert_eq!(text.matches("panicked, and begins again").count(), 1, "{text}");
}

/// A number whose serialization panics if it is 13.
#[derive(Debug, Clone, Deserialize)]
struct Odd(u64);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 { panics() } else { serializer.serialize_u64(self.0) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_serialization_panics_does_not_block_other_values() {
    let cache = Cache::<u64, Odd>::new().with_second_level("odd", MemoryLevel::new());
    cache.start();
    settle().await;
    // Concurrently, so that they are written in one step.
    let values = (10..20).map(|number| cache.get_or_load(&(), number, move || async move { Ok(Odd(number)) }));
    assert!(join_all(values).await.into_iter().all(|value| value.is_ok()));
    settle().await;
    let level = cache.stats().second_level.expect("there is one");
    assert_eq!((level.puts, level.is_subscribed), (9, true));
}

#[test]
fn a_replica_whose_runtime_shut_down_soon_distrusts_its_memory_and_recovers_on_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let cache = Replica::new().with_second_level("books", MemoryLevel::new());
    let first = runtime().expect("a runtime");
    first.block_on(async {
        ask(&cache, "dune", 1).await;
        settle().await;
        assert!(level(&cache).is_subscribed);
    });
    drop(first);
    assert!(!level(&cache).is_subscribed);
    runtime().expect("a runtime").block_on(async {
        ask(&cache, "emma", 1).await;
        settle().await;
        assert!(level(&cache).is_subscribed);
    });
}
