//! A second level that can fail, hang and come back without anybody noticing but its counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::breaker::Breaker;
use super::level::{LevelError, LevelFuture, Put, Read, SecondLevel, Subscription};
use super::stats::Count;

/// A level behind timeouts and breakers: one for what reads and one for what writes, since a level may be able to do the first
/// and not the second.
pub(super) struct Guarded {
    level: Arc<dyn SecondLevel>,
    reads: Breaker,
    writes: Breaker,
    /// Steps that failed or took too long.
    pub(super) failures: Count,
    /// Steps that were not taken because a breaker was open.
    pub(super) skipped: Count,
    warnings: Warnings,
}

impl Guarded {
    pub(super) fn new(level: Arc<dyn SecondLevel>) -> Self {
        Self {
            level,
            reads: Breaker::default(),
            writes: Breaker::default(),
            failures: Count::default(),
            skipped: Count::default(),
            warnings: Warnings::default(),
        }
    }

    pub(super) async fn get(&self, limit: Duration, key: &[u8], domains: &[u32]) -> Option<Read> {
        self.run(&self.reads, limit, "get", || self.level.get(key, domains)).await
    }

    pub(super) async fn put(&self, limit: Duration, values: &[Put]) -> Option<()> {
        self.run(&self.writes, limit, "put", || self.level.put(values)).await
    }

    pub(super) async fn advance(&self, limit: Duration, origin: u64, domains: &[u32]) -> Option<()> {
        self.run(&self.writes, limit, "advance", || self.level.advance(origin, domains)).await
    }

    pub(super) async fn acquire(&self, limit: Duration, key: &[u8], token: u64, lease: Duration) -> Option<bool> {
        self.run(&self.writes, limit, "acquire", || self.level.acquire(key, token, lease)).await
    }

    pub(super) async fn release(&self, limit: Duration, key: &[u8], token: u64) -> Option<()> {
        self.run(&self.writes, limit, "release", || self.level.release(key, token)).await
    }

    /// `None` where the level has no subscriptions, `Some(None)` where this one failed.
    pub(super) async fn subscribe(&self, limit: Duration) -> Option<Option<Subscription>> {
        let subscribing = self.level.subscribe()?;
        match timeout(limit, subscribing).await {
            Ok(Ok(subscription)) => Some(Some(subscription)),
            Ok(Err(error)) => {
                self.warnings.warn("subscribe", &error);
                Some(None)
            }
            Err(_) => {
                self.warnings.warn("subscribe", &LevelError::new("it took too long"));
                Some(None)
            }
        }
    }

    pub(super) fn can_write(&self) -> bool {
        !self.writes.is_open()
    }

    pub(super) fn is_open(&self) -> bool {
        self.reads.is_open() || self.writes.is_open()
    }

    async fn run<'a, T>(
        &'a self,
        breaker: &Breaker,
        limit: Duration,
        step: &'static str,
        call: impl FnOnce() -> LevelFuture<'a, T>,
    ) -> Option<T> {
        let Some(permit) = breaker.admit() else {
            self.skipped.add();
            return None;
        };
        let error = match timeout(limit, call()).await {
            Ok(Ok(done)) => {
                permit.succeeded();
                return Some(done);
            }
            Ok(Err(error)) => error,
            Err(_) => LevelError::new("it took too long"),
        };
        self.failures.add();
        if permit.failed() {
            tracing::warn!(step, %error, "the cache's second level fails and is left alone for a while");
        } else {
            self.warnings.warn(step, &error);
        }
        None
    }
}

/// Says what went wrong at most once in ten seconds.
#[derive(Default)]
struct Warnings {
    last: Mutex<Option<Instant>>,
    unsaid: AtomicU64,
}

impl Warnings {
    fn warn(&self, step: &'static str, error: &LevelError) {
        const PAUSE: Duration = Duration::from_secs(10);
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = Some(now);
        drop(last);
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        tracing::warn!(step, %error, unsaid, "the cache's second level failed");
    }
}
