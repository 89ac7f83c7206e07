//! How a load treats an expired value of the second level.

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::sleep;
use turbomcp_core::{Cancellable, McpError};

use super::*;
use crate::cached::{Cache, LevelError, MemoryLevel, Put, Read, SecondLevel, Subscription};
use crate::shared_work::{Anybody, Work};

const SECOND: Duration = Duration::from_secs(1);

type Replica = Cache<String, u64>;

/// Two replicas that share a level and are subscribed to it.
async fn two(level: impl SecondLevel, set: impl Fn(Replica) -> Replica) -> (Replica, Replica) {
    let level = Arc::new(level);
    let replica = || {
        let cache = set(Cache::new().with_second_level("books", Arc::clone(&level)));
        cache.start();
        cache
    };
    let pair = (replica(), replica());
    settle().await;
    pair
}

/// A value that is loaded in 20 ms.
async fn ask(cache: &Replica, value: u64) -> Result<u64, McpError> {
    let load = || async move {
        sleep(Duration::from_millis(20)).await;
        Ok(value)
    };
    cache.get_or_load(&(), "dune".into(), load).await
}

async fn ask_behind(cache: &Replica, gate: &Gate, value: u64) -> Result<u64, McpError> {
    let gate = gate.clone();
    let load = || async move {
        gate.pass().await;
        Ok(value)
    };
    cache.get_or_load(&(), "dune".into(), load).await
}

async fn ask_in_vain(cache: &Replica) -> Result<u64, McpError> {
    cache.get_or_load(&(), "dune".into(), || async { Err(McpError::resource_not_found("dune")) }).await
}

fn here(cache: &Replica) -> Option<u64> {
    cache.get(&"dune".to_owned())
}

fn revalidating(cache: Replica) -> Replica {
    cache.with_ttl(10 * SECOND).with_stale_while_revalidate(MINUTE)
}

/// A level that takes 10 ms to read.
pub(in crate::cached::tests) struct Far {
    level: MemoryLevel,
    hearing: Hearing,
}

/// How the subscription of a level behaves.
#[derive(Debug, Clone, Copy)]
pub(in crate::cached::tests) enum Hearing {
    Works,
    Missing,
    Fails,
    Hangs,
    Panics,
}

impl Far {
    pub(in crate::cached::tests) fn new(hearing: Hearing) -> Self {
        Self { level: MemoryLevel::new(), hearing }
    }
}

#[async_trait]
impl SecondLevel for Far {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        let read = self.level.get(key, keys).await;
        sleep(Duration::from_millis(10)).await;
        read
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        self.level.put(values).await
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        self.level.invalidate(origin, keys).await
    }

    async fn raise(&self, key: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        self.level.raise(key, keys, number).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        self.level.acquire(key, token, lease).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.level.release(key, token).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        match self.hearing {
            Hearing::Works => self.level.subscribe().await,
            Hearing::Missing => Ok(None),
            Hearing::Fails => Err(LevelError::new("it fails")),
            Hearing::Hangs => std::future::pending().await,
            Hearing::Panics => panic!("it breaks"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_found_in_the_second_level_is_refreshed() {
    let (a, b) = two(MemoryLevel::new(), revalidating).await;
    assert_eq!(ask(&a, 1).await.ok(), Some(1));
    sleep(15 * SECOND).await;
    let callers = join_all((0..1_000).map(|_| ask(&b, 2))).await;
    assert!(callers.into_iter().all(|answer| answer.is_ok_and(|value| value == 1)));
    let later = join_all((0..1_000).map(|_| ask(&b, 3))).await;
    assert!(later.into_iter().all(|answer| answer.is_ok_and(|value| value == 1)));
    sleep(SECOND).await;
    assert_eq!(here(&b), Some(2), "refreshed without a further call");
    let stats = b.stats();
    assert_eq!((stats.loads, stats.refreshes), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_found_in_the_second_level_near_its_expiry_is_refreshed() {
    let (a, b) = two(MemoryLevel::new(), |cache| cache.with_ttl(10 * SECOND).with_early_refresh(1e9)).await;
    assert_eq!(ask(&a, 1).await.ok(), Some(1));
    settle().await;
    assert_eq!(ask(&b, 2).await.ok(), Some(1));
    sleep(SECOND).await;
    assert_eq!((here(&b), b.stats().refreshes), (Some(2), 1));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_that_is_invalidated_while_it_is_read_is_not_refreshed() {
    let (a, b) = two(Far::new(Hearing::Works), revalidating).await;
    ask(&a, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    let invalidated = async {
        settle().await;
        b.invalidate(&"dune".to_owned());
    };
    let (before, ()) = tokio::join!(ask(&b, 2), invalidated);
    assert_eq!(before.ok(), Some(1), "a caller from before may get it");
    sleep(SECOND).await;
    assert_eq!((here(&b), b.stats().loads), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_does_not_replace_a_newer_load() {
    let (a, b) = two(Far::new(Hearing::Works), revalidating).await;
    ask(&a, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    let forced = async {
        settle().await;
        let load = || async {
            sleep(SECOND).await;
            Ok::<_, McpError>(3)
        };
        b.refresh(&(), "dune".into(), load).await
    };
    let (before, forced) = tokio::join!(ask(&b, 2), forced);
    assert_eq!((before.ok(), forced.ok()), (Some(1), Some(3)));
    assert_eq!((here(&b), b.stats().loads), (Some(3), 1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_a_second_level_value_ends_when_the_last_clone_is_dropped() {
    let (a, b) = two(MemoryLevel::new(), revalidating).await;
    ask(&a, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    let mut abandoned = None;
    let hanging = |work: &Arc<Work>| {
        abandoned = Some(Arc::clone(work));
        std::future::pending().boxed()
    };
    let (key, ttl) = ("dune".to_owned(), 10 * SECOND);
    let keys = b.entry_keys(&key);
    let (value, _) = b.loader.get_or_load(&Anybody(&()), key, &keys, ttl, hanging).await.expect("a value");
    let abandoned = abandoned.expect("the load was made");
    settle().await;
    assert_eq!((value, b.stats().refreshes, abandoned.is_cancelled()), (1, 1, false));
    drop(b);
    settle().await;
    assert!(abandoned.is_cancelled(), "the source is cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_permanently_removes_the_value_from_the_second_level_too() {
    let level = MemoryLevel::new();
    let (a, b) = two(level.clone(), revalidating).await;
    let (c, _) = two(level, revalidating).await;
    ask(&a, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    assert_eq!(ask_in_vain(&b).await.ok(), Some(1));
    sleep(SECOND).await;
    assert!(ask_in_vain(&b).await.is_err());
    assert!(ask_in_vain(&c).await.is_err());
    assert_eq!(b.stats().second_level.map(|level| level.puts), Some(0), "nothing is no value");
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_lease_serves_a_stale_value_without_waiting() {
    let (a, b) =
        two(MemoryLevel::new(), |cache| cache.with_ttl(10 * SECOND).with_stale_if_error(MINUTE).with_lease(5 * SECOND))
            .await;
    ask(&a, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    let gate = Gate::closed();
    let elsewhere = async {
        settle().await;
        let began = tokio::time::Instant::now();
        assert_eq!(ask(&b, 3).await.ok(), Some(1));
        assert_eq!(ask(&b, 3).await.ok(), Some(1));
        assert_eq!(began.elapsed(), Duration::ZERO, "on a paused clock");
        gate.open();
        settle().await;
        assert_eq!(ask(&b, 3).await.ok(), Some(2));
    };
    let (loaded, ()) = tokio::join!(ask_behind(&a, &gate, 2), elsewhere);
    assert_eq!((loaded.ok(), b.stats().loads), (Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_lease_waits_if_the_stale_value_was_invalidated() {
    let (a, b) =
        two(MemoryLevel::new(), |cache| cache.with_ttl(10 * SECOND).with_stale_if_error(MINUTE).with_lease(5 * SECOND))
            .await;
    ask(&a, 1).await.expect("a value");
    settle().await;
    ask(&b, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    a.invalidate(&"dune".to_owned());
    settle().await;
    let gate = Gate::closed();
    let (opened, elsewhere) = (gate.clone(), b.clone());
    let waiting = async {
        settle().await;
        let asking = tokio::spawn(async move { ask(&elsewhere, 3).await });
        sleep(SECOND).await;
        opened.open();
        asking.await.expect("no panic").ok()
    };
    let (loaded, waited) = tokio::join!(ask_behind(&a, &gate, 2), waiting);
    assert_eq!((loaded.ok(), waited, b.stats().loads), (Some(2), Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_without_the_lease_waits_for_the_new_value() {
    let (a, b) = two(MemoryLevel::new(), |cache| revalidating(cache).with_lease(5 * SECOND)).await;
    ask(&a, 1).await.expect("a value");
    settle().await;
    ask(&b, 1).await.expect("a value");
    sleep(15 * SECOND).await;
    let gate = Gate::closed();
    assert_eq!(ask_behind(&a, &gate, 2).await.ok(), Some(1));
    settle().await;
    assert_eq!(ask(&b, 3).await.ok(), Some(1));
    sleep(SECOND).await;
    gate.open();
    sleep(SECOND).await;
    assert_eq!((here(&b), b.stats().loads), (Some(2), 0));
}
