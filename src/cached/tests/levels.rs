//! Two replicas with a second level between them.

use std::sync::Mutex;
use std::sync::atomic::AtomicU8;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;
use crate::cached::{
    Handle, LevelError, LevelFuture, MemoryLevel, Put, Read, SecondLevel, SecondLevelStats, Subscription,
};
use crate::testing::{Call, second_level_contract};
use crate::{CachedTool, Layer, Layered, Scope};

const SECOND: Duration = Duration::from_secs(1);

/// A level that fails in the way it is told to.
#[derive(Clone)]
struct Faulty {
    level: MemoryLevel,
    fault: Arc<AtomicU8>,
    hang_up: Arc<tokio::sync::Notify>,
}

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

impl Faulty {
    fn new(level: &MemoryLevel) -> Self {
        Self { level: level.clone(), fault: Arc::default(), hang_up: Arc::default() }
    }

    fn set(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
        if fault != WORKS {
            self.hang_up.notify_waiters();
        }
    }

    fn then<'a, T: Send + 'a>(&'a self, step: LevelFuture<'a, T>) -> LevelFuture<'a, T> {
        Box::pin(async move {
            match self.fault.load(Ordering::SeqCst) {
                WORKS => step.await,
                FAILS => Err(LevelError::new("it fails")),
                _ => std::future::pending().await,
            }
        })
    }
}

impl SecondLevel for Faulty {
    fn get<'a>(&'a self, key: &'a [u8], domains: &'a [u32]) -> LevelFuture<'a, Read> {
        self.then(self.level.get(key, domains))
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        self.then(self.level.put(values))
    }

    fn advance<'a>(&'a self, origin: u64, domains: &'a [u32]) -> LevelFuture<'a, ()> {
        self.then(self.level.advance(origin, domains))
    }

    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool> {
        self.then(self.level.acquire(key, token, lease))
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()> {
        self.then(self.level.release(key, token))
    }

    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>> {
        let subscribing = self.level.subscribe()?;
        let hang_up = Arc::clone(&self.hang_up);
        Some(self.then(Box::pin(async move {
            let end = Box::pin(async move { hang_up.notified().await });
            Ok(subscribing.await?.take_until(end).boxed())
        })))
    }
}

/// The number of writes so far, behind a tool that reads it and one that writes.
#[derive(Clone, Default)]
struct Source {
    version: Arc<std::sync::atomic::AtomicU64>,
    door: Arc<Mutex<Option<Door>>>,
    loads: Arc<std::sync::atomic::AtomicU64>,
}

struct Replica {
    server: Layered<CachedTool, ScriptedServer>,
    handle: Handle,
    level: Faulty,
}

impl Source {
    fn replica(&self, level: &MemoryLevel, set: impl Fn(CachedTool) -> CachedTool) -> Replica {
        let level = Faulty::new(level);
        let (reads, writes) = (self.clone(), self.clone());
        let script = ScriptedServer::new("library")
            .with_read_only("read", move |_: Call| {
                let source = reads.clone();
                async move {
                    let version = source.version.load(Ordering::SeqCst);
                    source.loads.fetch_add(1, Ordering::SeqCst);
                    let door = source.door.lock().expect("nobody panicked").clone();
                    match door {
                        Some(door) => door.pass().await,
                        None => sleep(Duration::from_millis(20)).await,
                    }
                    Ok(ToolResult::text(version.to_string()))
                }
            })
            .with_plain("write", move |_| {
                let source = writes.clone();
                async move { Ok(ToolResult::text((source.version.fetch_add(1, Ordering::SeqCst) + 1).to_string())) }
            });
        let layer = CachedTool::new().with_scope(Scope::Public).with_second_level(level.clone());
        let layer = set(layer).invalidates("write", ["read"]);
        Replica { handle: layer.handle(), server: layer.layer(script), level }
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

impl Replica {
    async fn read(&self) -> u64 {
        self.read_with_status().await.0
    }

    async fn read_with_status(&self) -> (u64, String, u64) {
        let result = self.server.call_tool("read", json!({}), &nobody()).await.expect("an answer");
        let meta = result.meta.as_ref().expect("it tells")[outcome::CACHE].clone();
        let level = meta["level"].as_u64().unwrap_or_default();
        (text(&result).parse().expect("a version"), meta["status"].as_str().unwrap_or_default().to_owned(), level)
    }

    async fn write(&self) -> u64 {
        answer(&self.server, "write", json!({}), &nobody()).await.parse().expect("a version")
    }

    fn level(&self) -> SecondLevelStats {
        self.handle.stats().second_level.expect("there is one")
    }
}

fn as_it_is(layer: CachedTool) -> CachedTool {
    layer
}

fn found(version: u64, status: &str, level: u64) -> (u64, String, u64) {
    (version, status.to_owned(), level)
}

/// Two replicas that have begun to listen.
async fn two(source: &Source, set: impl Fn(CachedTool) -> CachedTool) -> (Replica, Replica) {
    let level = MemoryLevel::new();
    let pair = (source.replica(&level, &set), source.replica(&level, &set));
    settle().await;
    pair
}

#[tokio::test]
async fn the_level_in_memory_keeps_the_contract() {
    let level = MemoryLevel::new();
    second_level_contract(|| async { level.clone() }).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_has_loaded_the_other_finds() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    assert_eq!(a.read_with_status().await, found(0, "miss", 0));
    settle().await;
    assert_eq!(b.read_with_status().await, found(0, "hit", 2));
    assert_eq!(b.read_with_status().await, found(0, "hit", 1));
    assert_eq!(source.loads(), 1);
    assert_eq!((a.level().puts, b.level().hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_from_the_second_level_is_no_younger_than_it_is() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_ttl(20 * SECOND)).await;
    a.read().await;
    sleep(15 * SECOND).await;
    assert_eq!(b.read_with_status().await.1, "hit");
    sleep(5 * SECOND).await;
    assert_eq!(b.read_with_status().await, found(0, "miss", 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_write_its_replica_is_right_at_once_and_the_others_when_they_have_heard() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    for _ in 0..100 {
        a.read().await;
        settle().await;
        b.read().await;
        let written = a.write().await;
        assert_eq!(a.read().await, written);
        settle().await;
        assert_eq!(b.read().await, written);
    }
    assert_eq!(b.level().invalidations_heard, 100);
}

#[tokio::test(start_paused = true)]
async fn a_write_while_the_second_level_fails_is_read_at_once_by_its_replica() {
    for fault in [FAILS, HANGS] {
        let source = Source::default();
        let (a, b) = two(&source, as_it_is).await;
        a.read().await;
        settle().await;
        a.level.set(fault);
        let written = a.write().await;
        assert_eq!(a.read().await, written);
        a.handle.clear();
        a.level.set(WORKS);
        assert_eq!(a.read().await, written, "what the second level has is from before the write");
        sleep(10 * SECOND).await;
        assert_eq!(a.level().untold_domains, 0, "it is told as soon as it works again");
        assert_eq!(b.read().await, written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_an_invalidation_is_kept_on_no_replica() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    let door = Door::closed();
    *source.door.lock().expect("nobody panicked") = Some(door.clone());
    let server = b.server.clone();
    let slow = tokio::spawn(async move { read(&server).await });
    settle().await;
    *source.door.lock().expect("nobody panicked") = None;
    let written = a.write().await;
    door.open();
    assert_eq!(slow.await.expect("an answer"), "0", "who asked before may have it");
    settle().await;
    assert_eq!((a.read().await, b.read().await), (written, written));
}

/// The invalidation does not reach B at all, which learns of it from the generations.
#[tokio::test(start_paused = true)]
async fn what_was_loaded_before_an_invalidation_is_not_found_in_the_second_level() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_unsubscribed_ttl(Duration::from_millis(1))).await;
    let door = Door::closed();
    *source.door.lock().expect("nobody panicked") = Some(door.clone());
    b.level.hang_up.notify_waiters();
    let server = b.server.clone();
    let slow = tokio::spawn(async move { read(&server).await });
    sleep(Duration::from_micros(100)).await;
    *source.door.lock().expect("nobody panicked") = None;
    let written = a.write().await;
    door.open();
    slow.await.expect("an answer");
    sleep(Duration::from_millis(5)).await;
    assert_eq!((b.read().await, a.read().await), (written, written));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hears_nothing_trusts_its_memory_for_a_second_only() {
    let source = Source::default();
    let (a, b) = two(&source, as_it_is).await;
    a.read().await;
    settle().await;
    b.read().await;
    b.level.set(FAILS);
    settle().await;
    assert!(!b.level().is_subscribed);
    let written = a.write().await;
    assert_eq!(b.read().await, 0, "within the bound");
    advance(SECOND).await;
    assert_eq!(b.read().await, written, "and not beyond");
    b.level.set(WORKS);
    sleep(7 * SECOND).await;
    assert!(b.level().is_subscribed);
    b.read().await;
    b.level.set(FAILS);
    settle().await;
    let written = a.write().await;
    b.level.set(WORKS);
    sleep(2 * SECOND).await;
    assert_eq!(b.read().await, written, "what was not heard is not trusted when it is back");
}

#[tokio::test(start_paused = true)]
async fn a_failing_or_hanging_second_level_fails_no_call_and_is_left_alone() {
    for fault in [FAILS, HANGS] {
        let source = Source::default();
        let (a, _) = two(&source, |layer| layer.with_ttl(Duration::from_millis(1))).await;
        a.level.set(fault);
        for _ in 0..100 {
            a.read().await;
            sleep(Duration::from_millis(2)).await;
        }
        let stats = a.level();
        assert_eq!(source.loads(), 100);
        assert!(stats.is_open && stats.failures <= 12, "{stats:?}");
        a.level.set(WORKS);
        sleep(6 * SECOND).await;
        a.read().await;
        assert!(!a.level().is_open, "it comes back by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn five_thousand_misses_over_two_replicas_are_one_load_with_a_lease() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(5 * SECOND)).await;
    let (a, b) = (a.server, b.server);
    let callers = (0..5_000).map(|caller| {
        let server = if caller % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { read(&server).await })
    });
    for answer in join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(answer.expect("an answer"), "0");
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_never_given_back_blocks_nobody_for_longer_than_it_lasts() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(SECOND)).await;
    let door = Door::closed();
    *source.door.lock().expect("nobody panicked") = Some(door.clone());
    let stuck = tokio::spawn(async move { a.read().await });
    settle().await;
    *source.door.lock().expect("nobody panicked") = None;
    let began = tokio::time::Instant::now();
    assert_eq!(b.read().await, 0);
    assert!(began.elapsed() < 2 * SECOND, "on a paused clock");
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn a_load_that_is_dropped_gives_its_lease_back() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(100 * SECOND)).await;
    let door = Door::closed();
    *source.door.lock().expect("nobody panicked") = Some(door.clone());
    let server = a.server.clone();
    let dropped = tokio::spawn(async move { read(&server).await });
    settle().await;
    *source.door.lock().expect("nobody panicked") = None;
    dropped.abort();
    settle().await;
    let began = tokio::time::Instant::now();
    b.read().await;
    assert!(began.elapsed() < SECOND, "on a paused clock");
}

#[tokio::test(start_paused = true)]
async fn the_work_in_the_background_ends_when_the_last_clone_is_dropped() {
    let source = Source::default();
    let level = MemoryLevel::new();
    let a = source.replica(&level, as_it_is);
    a.read().await;
    settle().await;
    let fault = Arc::downgrade(&a.level.fault);
    let Replica { server, handle, level } = a;
    drop((server, level));
    settle().await;
    assert!(fault.upgrade().is_some(), "the handle is a clone");
    drop(handle);
    settle().await;
    assert!(fault.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_past_its_ttl_everywhere_is_served_and_refreshed() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_ttl(10 * SECOND).with_stale_while_revalidate(MINUTE)).await;
    a.read().await;
    source.version.store(7, Ordering::SeqCst);
    sleep(15 * SECOND).await;
    assert_eq!(b.read_with_status().await, found(0, "stale", 2));
    assert_eq!(b.read_with_status().await, found(0, "stale", 1));
    sleep(SECOND).await;
    assert_eq!(b.read_with_status().await, found(7, "hit", 1));
    assert_eq!(a.read_with_status().await, found(0, "stale", 1));
    sleep(SECOND).await;
    assert_eq!(a.read_with_status().await, found(7, "hit", 1), "from B, without a load");
    assert_eq!(source.loads(), 2);
}

/// Reads, writes, invalidations, time that passes and connections that are lost, in random order: a read returns the version of
/// the last write before it; on the other replica, of the last write it must have heard of.
#[tokio::test(start_paused = true)]
async fn ten_thousand_random_steps_find_no_read_staler_than_the_bound() {
    let mut chance = fastrand::Rng::with_seed(5);
    let source = Source::default();
    let level = MemoryLevel::new();
    let replicas = [source.replica(&level, as_it_is), source.replica(&level, as_it_is)];
    settle().await;
    // For each replica, the writes that it may not know of: when they ended, and of which version.
    let mut unknown: [Vec<(tokio::time::Instant, u64)>; 2] = Default::default();
    let mut least = [0, 0];
    let mut is_down = [false, false];
    for _ in 0..10_000 {
        let at = chance.usize(0..2);
        let now = tokio::time::Instant::now();
        match chance.u8(0..100) {
            0..60 => {
                // What a replica without a connection has not heard of, it trusts for a second, and one with it not at all.
                let bound = if is_down.contains(&true) { SECOND } else { Duration::ZERO };
                let known = unknown[at].iter().filter(|(when, _)| now - *when >= bound);
                least[at] = known.map(|(_, version)| *version).max().unwrap_or_default().max(least[at]);
                unknown[at].retain(|(_, version)| *version > least[at]);
                let version = replicas[at].read().await;
                assert!(version >= least[at], "replica {at} read {version} after {}", least[at]);
            }
            60..75 => {
                let version = replicas[at].write().await;
                least[at] = version;
                settle().await;
                // A replica that cannot tell the others is unknown to them until it can.
                if !is_down[at] {
                    unknown[1 - at].push((tokio::time::Instant::now(), version));
                }
            }
            75..85 => replicas[at].handle.invalidate("read", &json!({})),
            85..95 => sleep(Duration::from_millis(chance.u64(1..3_000))).await,
            95..97 => {
                replicas[at].level.set(if chance.bool() { FAILS } else { HANGS });
                is_down[at] = true;
            }
            _ => {
                replicas[at].level.set(WORKS);
                // A breaker and a pause go by.
                sleep(7 * SECOND).await;
                is_down[at] = false;
            }
        }
        settle().await;
    }
    assert!(source.loads() < 6_500, "most reads are not loads: {}", source.loads());
}
