//! Replicas of a server that reads and writes one number, with a second level between them whose failures the test
//! controls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::time::sleep;

use super::*;
use crate::cached::{Handle, LevelError, MemoryLevel, Put, Read, SecondLevel, SecondLevelStats, Subscription};
use crate::testing::Call;
use crate::{CachedTool, Layer, Layered, Scope};

pub(in crate::cached::tests) const SECOND: Duration = Duration::from_secs(1);

/// A level that fails in a configurable way.
#[derive(Clone)]
pub(in crate::cached::tests) struct Faulty<L> {
    level: L,
    faults: Faults,
}

/// The fault of a level, and how often the level was used.
#[derive(Clone, Default)]
pub(in crate::cached::tests) struct Faults {
    pub(in crate::cached::tests) fault: Arc<AtomicU8>,
    pub(in crate::cached::tests) hang_up: Arc<tokio::sync::Notify>,
    /// The gate at which invalidations wait before they are received.
    pub(in crate::cached::tests) delay: Arc<Mutex<Option<Gate>>>,
    pub(in crate::cached::tests) gets: Arc<Asked>,
    pub(in crate::cached::tests) writes: Arc<Asked>,
}

/// How often a step began, and how often it ended in time.
#[derive(Default)]
pub(in crate::cached::tests) struct Asked {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Asked {
    pub(in crate::cached::tests) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn given_up(&self) -> u64 {
        self.begun() - self.ended.load(Ordering::SeqCst)
    }
}

pub(in crate::cached::tests) const WORKS: u8 = 0;
pub(in crate::cached::tests) const FAILS: u8 = 1;
pub(in crate::cached::tests) const HANGS: u8 = 2;
pub(in crate::cached::tests) const HANGS_WRITING: u8 = 3;
/// Takes 10 ms for each step.
pub(in crate::cached::tests) const CRAWLS: u8 = 4;
pub(in crate::cached::tests) const PANICS: u8 = 5;

impl Faults {
    /// Puts the faults in front of a level.
    pub(in crate::cached::tests) fn of<L>(&self, level: L) -> Faulty<L> {
        Faulty { level, faults: self.clone() }
    }

    pub(in crate::cached::tests) fn set(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
        if ![WORKS, CRAWLS].contains(&fault) {
            self.hang_up.notify_waiters();
        }
    }

    /// Returns how many steps took too long. A running one counts.
    pub(in crate::cached::tests) fn given_up(&self) -> u64 {
        self.gets.given_up() + self.writes.given_up()
    }

    async fn then<T>(
        &self,
        asked: Option<&Asked>,
        step: impl Future<Output = Result<T, LevelError>>,
    ) -> Result<T, LevelError> {
        if let Some(asked) = asked {
            asked.begun.fetch_add(1, Ordering::SeqCst);
        }
        let is_write = asked.is_some_and(|asked| std::ptr::eq(asked, &*self.writes));
        let done = match self.fault.load(Ordering::SeqCst) {
            WORKS => step.await,
            FAILS => Err(LevelError::new("it fails")),
            PANICS => std::panic::resume_unwind(Box::new("a bug of the level")),
            HANGS_WRITING if !is_write => step.await,
            CRAWLS => {
                sleep(Duration::from_millis(10)).await;
                step.await
            }
            _ => std::future::pending().await,
        };
        if let Some(asked) = asked {
            asked.ended.fetch_add(1, Ordering::SeqCst);
        }
        done
    }
}

#[async_trait]
impl<L: SecondLevel> SecondLevel for Faulty<L> {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        self.faults.then(Some(&self.faults.gets), self.level.get(key, keys)).await
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        self.faults.then(Some(&self.faults.writes), self.level.put(values)).await
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        self.faults.then(Some(&self.faults.writes), self.level.invalidate(origin, keys)).await
    }

    async fn raise(&self, key: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        self.faults.then(Some(&self.faults.writes), self.level.raise(key, keys, number)).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        self.faults.then(Some(&self.faults.writes), self.level.acquire(key, token, lease)).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.faults.then(Some(&self.faults.writes), self.level.release(key, token)).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        let (hang_up, delay) = (Arc::clone(&self.faults.hang_up), Arc::clone(&self.faults.delay));
        let subscribing = async move {
            let end = Box::pin(async move { hang_up.notified().await });
            let subscription = self.level.subscribe().await?;
            Ok(subscription.map(|subscription| {
                let delayed = subscription.then(move |received| {
                    let gate = delay.lock().expect("no test panicked").clone();
                    async move {
                        if let Some(gate) = gate {
                            gate.pass().await;
                        }
                        received
                    }
                });
                delayed.take_until(end).boxed() as Subscription
            }))
        };
        self.faults.then(None, subscribing).await
    }
}

/// The number of writes so far, behind a tool that reads it and one that writes.
#[derive(Clone)]
pub(in crate::cached::tests) struct Source {
    pub(in crate::cached::tests) version: Arc<AtomicU64>,
    pub(in crate::cached::tests) gate: Arc<Mutex<Option<Gate>>>,
    loads: Arc<AtomicU64>,
    /// The duration of a load that waits at no gate.
    pub(in crate::cached::tests) takes: Duration,
}

impl Default for Source {
    fn default() -> Self {
        Self { version: Arc::default(), gate: Arc::default(), loads: Arc::default(), takes: Duration::from_millis(20) }
    }
}

/// A source that takes no time.
pub(in crate::cached::tests) fn at_once() -> Source {
    Source::that_takes(Duration::ZERO)
}

/// The tools that write. They change the same data, and invalidate by tool, by tag and by call.
pub(in crate::cached::tests) const WRITERS: [&str; 3] = ["write", "write_tagged", "write_call"];

pub(in crate::cached::tests) struct Replica {
    pub(in crate::cached::tests) server: Layered<CachedTool, ScriptedServer>,
    pub(in crate::cached::tests) handle: Handle,
    pub(in crate::cached::tests) faults: Faults,
    /// The version that it wrote last.
    pub(in crate::cached::tests) written: Arc<AtomicU64>,
}

impl Source {
    pub(in crate::cached::tests) fn that_takes(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    pub(in crate::cached::tests) fn replica<L: SecondLevel>(
        &self,
        level: L,
        set: impl FnOnce(CachedTool) -> CachedTool,
    ) -> Replica {
        self.replica_that_notes(Arc::default(), level, set)
    }

    pub(in crate::cached::tests) fn replica_that_notes<L: SecondLevel>(
        &self,
        written: Arc<AtomicU64>,
        level: L,
        set: impl FnOnce(CachedTool) -> CachedTool,
    ) -> Replica {
        let faults = Faults::default();
        let (reads, writes, note) = (self.clone(), self.clone(), Arc::clone(&written));
        let script = ScriptedServer::new("library").with_read_only("read", move |_: Call| {
            let source = reads.clone();
            async move {
                let version = source.version.load(Ordering::SeqCst);
                source.loads.fetch_add(1, Ordering::SeqCst);
                let gate = source.gate.lock().expect("no panic").clone();
                match gate {
                    Some(gate) => gate.pass().await,
                    None if source.takes.is_zero() => {}
                    None => sleep(source.takes).await,
                }
                Ok(ToolResult::text(version.to_string()))
            }
        });
        let write = move |_| {
            let (source, note) = (writes.clone(), Arc::clone(&note));
            async move {
                let version = source.version.fetch_add(1, Ordering::SeqCst) + 1;
                note.store(version, Ordering::SeqCst);
                Ok(ToolResult::text(version.to_string()))
            }
        };
        let script = WRITERS.iter().fold(script, |script, writer| script.with_plain(writer, write.clone()));
        let layer = CachedTool::new().with_scope(Scope::Public);
        let layer = layer.with_second_level(Faulty { level, faults: faults.clone() });
        let layer = set(layer)
            .tag("read", |_| ["version"])
            .invalidates(WRITERS[0], ["read"])
            .invalidates_tags(WRITERS[1], |_| ["version"])
            .invalidates_calls(WRITERS[2], |_| [("read", json!({}))]);
        Replica { handle: layer.handle(), server: layer.layer(script), faults, written }
    }

    pub(in crate::cached::tests) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

impl Replica {
    pub(in crate::cached::tests) async fn read(&self) -> u64 {
        self.read_with_status().await.0
    }

    pub(in crate::cached::tests) async fn read_with_status(&self) -> (u64, String, u64) {
        self.read_args(json!({})).await
    }

    /// Like [`read_with_status`](Self::read_with_status), for one of many calls with different results.
    pub(in crate::cached::tests) async fn read_of(&self, n: u64) -> (u64, String, u64) {
        self.read_args(json!({"n": n})).await
    }

    async fn read_args(&self, args: Value) -> (u64, String, u64) {
        let result = self.server.call_tool("read", args, &nobody()).await;
        assert!(outcome::failure(&result).is_none(), "{result:?}");
        let result = result.expect("no failure is an error");
        let meta = result.meta.as_ref().expect("it tells")[outcome::CACHE].clone();
        let level = meta["level"].as_u64().unwrap_or_default();
        (text(&result).parse().expect("a version"), meta["status"].as_str().unwrap_or_default().to_owned(), level)
    }

    pub(in crate::cached::tests) async fn write(&self) -> u64 {
        self.write_with(WRITERS[0]).await
    }

    pub(in crate::cached::tests) async fn write_with(&self, writer: &str) -> u64 {
        answer(&self.server, writer, json!({}), &nobody()).await.parse().expect("a version")
    }

    pub(in crate::cached::tests) fn level(&self) -> SecondLevelStats {
        self.handle.stats().second_level.expect("there is one")
    }
}

pub(in crate::cached::tests) fn as_it_is(layer: CachedTool) -> CachedTool {
    layer
}

pub(in crate::cached::tests) fn found(version: u64, status: &str, level: u64) -> (u64, String, u64) {
    (version, status.to_owned(), level)
}

/// Two subscribed replicas.
pub(in crate::cached::tests) async fn two(
    source: &Source,
    set: impl Fn(CachedTool) -> CachedTool,
) -> (Replica, Replica) {
    let level = MemoryLevel::new();
    let pair = (source.replica(level.clone(), &set), source.replica(level, &set));
    settle().await;
    pair
}
