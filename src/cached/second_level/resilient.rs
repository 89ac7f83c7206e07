//! A second level that can fail, hang and come back without anybody noticing but its counters.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use super::breaker::Breaker;
use super::{Invalidation, LevelError, LevelFuture, Put, Read, SecondLevel, Subscription};
use crate::telemetry::{Count, Counter, Outage, Over, Warning};

/// A level behind timeouts and breakers: one for what reads and one for what writes, since a level may be able to do the first
/// and not the second.
pub(in crate::cached) struct Guarded {
    level: Arc<dyn SecondLevel>,
    reads: Side,
    writes: Side,
    /// Steps that failed or took too long.
    pub(in crate::cached) failures: Count,
    /// Steps that were not taken because a breaker was open.
    pub(in crate::cached) skipped: Count,
    /// Those that failed, by step.
    failed: [Counter; STEPS.len()],
    /// Of the subscription.
    unheard: Outage,
    set_back: Warning,
    panicking: Warning,
}

/// What can be asked of a level.
#[derive(Clone, Copy)]
enum Step {
    Get,
    Put,
    Invalidate,
    Raise,
    Acquire,
    Release,
    Subscribe,
}

/// Their names, in that order.
const STEPS: [&str; 7] = ["get", "put", "invalidate", "raise", "acquire", "release", "subscribe"];

/// Steps that fail together.
struct Side {
    name: &'static str,
    breaker: Breaker,
    opened: Counter,
    closed: Counter,
    opening: Warning,
    outage: Outage,
}

impl Side {
    fn new(name: &'static str) -> Self {
        let counter =
            |to| Counter::new("mcp_patterns_cache_second_level_breaker_total", &[("steps", name), ("to", to)]);
        let (opened, closed) = (counter("open"), counter("closed"));
        Self {
            name,
            breaker: Breaker::default(),
            opened,
            closed,
            opening: Warning::default(),
            outage: Outage::default(),
        }
    }
}

impl Guarded {
    pub(in crate::cached) fn new(level: Arc<dyn SecondLevel>) -> Self {
        let failed = |step| Counter::new("mcp_patterns_cache_second_level_failures_total", &[("step", step)]);
        Self {
            level,
            reads: Side::new("read"),
            writes: Side::new("write"),
            failures: Count::default(),
            skipped: Count::default(),
            failed: STEPS.map(failed),
            unheard: Outage::default(),
            set_back: Warning::default(),
            panicking: Warning::default(),
        }
    }

    pub(in crate::cached) async fn get(&self, limit: Duration, key: &[u8], keys: &[u64]) -> Option<Read> {
        self.run(&self.reads, limit, Step::Get, || self.level.get(key, keys)).await
    }

    pub(in crate::cached) async fn put(&self, limit: Duration, values: &[Put]) -> Option<()> {
        self.run(&self.writes, limit, Step::Put, || self.level.put(values)).await
    }

    pub(in crate::cached) async fn invalidate(&self, limit: Duration, origin: u64, keys: &[u64]) -> Option<u64> {
        self.run(&self.writes, limit, Step::Invalidate, || self.level.invalidate(origin, keys)).await
    }

    pub(in crate::cached) async fn raise(&self, limit: Duration, key: &[u8], keys: &[u64], number: u64) -> Option<()> {
        if let Some(unsaid) = self.set_back.due() {
            tracing::warn!(unsaid, "the cache's second level has lost invalidations, so what it keeps is dropped");
        }
        self.run(&self.writes, limit, Step::Raise, || self.level.raise(key, keys, number)).await
    }

    pub(in crate::cached) async fn acquire(
        &self,
        limit: Duration,
        key: &[u8],
        token: u64,
        lease: Duration,
    ) -> Option<bool> {
        self.run(&self.writes, limit, Step::Acquire, || self.level.acquire(key, token, lease)).await
    }

    pub(in crate::cached) async fn release(&self, limit: Duration, key: &[u8], token: u64) -> Option<()> {
        self.run(&self.writes, limit, Step::Release, || self.level.release(key, token)).await
    }

    /// `None` where the level has no subscriptions, `Some(None)` where this one failed.
    pub(in crate::cached) async fn subscribe(&self, limit: Duration) -> Option<Option<Subscription>> {
        let subscribed = attempt(limit, || {
            let subscribing = self.level.subscribe();
            Box::pin(async move {
                Ok(match subscribing {
                    Some(subscribing) => Some(subscribing.await?),
                    None => None,
                })
            })
        });
        match subscribed.await {
            Ok(subscription) => {
                if let Some(Over { after_ms, failures }) = self.unheard.worked() {
                    tracing::info!(after_ms, failures, "the cache hears of other replicas' invalidations again");
                }
                subscription.map(Some)
            }
            Err(error) => {
                self.failed(&self.unheard, Step::Subscribe, &error);
                Some(None)
            }
        }
    }

    /// Returns what a subscription hears next, or `None` at its end. One that panics has ended.
    pub(in crate::cached) async fn next(&self, subscription: &mut Subscription) -> Option<Invalidation> {
        match AssertUnwindSafe(async { subscription.next().await }).catch_unwind().await {
            Ok(heard) => heard,
            Err(_) => {
                self.failed(&self.unheard, Step::Subscribe, &LevelError::new(PANICKED));
                None
            }
        }
    }

    /// Work in the background has panicked, and goes on.
    pub(in crate::cached) fn has_panicked(&self, work: &'static str) {
        if let Some(unsaid) = self.panicking.due() {
            tracing::warn!(work, unsaid, "the cache's work for its second level panicked, and goes on");
        }
    }

    /// A subscription has ended.
    pub(in crate::cached) fn is_unheard(&self) {
        if let Some(unsaid) = self.unheard.failed() {
            tracing::warn!(
                unsaid,
                "the cache does not hear of other replicas' invalidations until it is connected again"
            );
        }
    }

    /// Says whether steps that write are taken as they come.
    pub(in crate::cached) fn can_write(&self) -> bool {
        self.writes.breaker.is_closed()
    }

    pub(in crate::cached) fn is_open(&self) -> bool {
        self.reads.breaker.is_open() || self.writes.breaker.is_open()
    }

    async fn run<'a, T>(
        &'a self,
        side: &Side,
        limit: Duration,
        step: Step,
        call: impl FnOnce() -> LevelFuture<'a, T>,
    ) -> Option<T> {
        let Some(permit) = side.breaker.admit() else {
            self.skipped.add();
            return None;
        };
        let error = match attempt(limit, call).await {
            Ok(done) => {
                let has_closed = permit.succeeded();
                if has_closed {
                    side.closed.increment();
                }
                let steps = side.name;
                match side.outage.worked() {
                    Some(Over { after_ms, failures }) => {
                        tracing::info!(steps, after_ms, failures, "the cache's second level is used again");
                    }
                    None if has_closed => tracing::info!(steps, "the cache's second level is used again"),
                    None => {}
                }
                return Some(done);
            }
            Err(error) => error,
        };
        self.failures.add();
        if permit.failed() {
            side.opened.increment();
            if let Some(unsaid) = side.opening.due() {
                let steps = side.name;
                tracing::warn!(steps, %error, unsaid, "the cache's second level fails and is left alone for a while");
            }
        }
        self.failed(&side.outage, step, &error);
        None
    }

    fn failed(&self, outage: &Outage, step: Step, error: &LevelError) {
        self.failed[step as usize].increment();
        if let Some(unsaid) = outage.failed() {
            tracing::warn!(step = STEPS[step as usize], %error, unsaid, "the cache's second level failed");
        }
    }
}

/// Takes a step of a level that may hang, or panic.
async fn attempt<'a, T>(limit: Duration, step: impl FnOnce() -> LevelFuture<'a, T>) -> Result<T, LevelError> {
    match timeout(limit, AssertUnwindSafe(async { step().await }).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(LevelError::new(PANICKED)),
        Err(_) => Err(LevelError::new("it took too long")),
    }
}

/// The panic hook has told the rest.
const PANICKED: &str = "it panicked, which is a bug of it";
