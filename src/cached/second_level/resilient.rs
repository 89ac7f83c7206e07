//! A second level behind timeouts and breakers: it may fail, hang and recover, and only its counters and logs show it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use super::{Invalidation, LevelError, Put, Read, SecondLevel, Subscription};
use crate::circuit::{Circuit, Failed, Rules, State};
use crate::telemetry::{Count, Counter, Outage, Over, Warning};

/// A level behind timeouts and breakers: one breaker for steps that read and one for steps that write, since a level may be able to do
/// the first and not the second.
pub(in crate::cached) struct ResilientLevel {
    level: Arc<dyn SecondLevel>,
    reads: Breaker,
    writes: Breaker,
    /// Steps that failed or took too long.
    pub(in crate::cached) failures: Count,
    /// Steps that were skipped because a breaker was open.
    pub(in crate::cached) skipped: Count,
    /// Steps that failed, by name.
    failed: [Counter; STEPS.len()],
    /// The state of the subscription.
    subscription: Outage,
    setback: Warning,
    panicking: Warning,
}

/// The steps of a level.
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

/// All steps count for one principal: the replica.
const REPLICA: u64 = 0;

/// The breaker of steps that fail together, with its counters and logs.
struct Breaker {
    name: &'static str,
    circuit: Circuit,
    opened: Counter,
    closed: Counter,
    opening: Warning,
    outage: Outage,
}

impl Breaker {
    fn new(name: &'static str) -> Self {
        let counter =
            |to| Counter::new("mcp_patterns_cache_second_level_breaker_total", &[("steps", name), ("to", to)]);
        let (opened, closed) = (counter("open"), counter("closed"));
        Self {
            name,
            circuit: Circuit::new(Rules::OF_BACKEND),
            opened,
            closed,
            opening: Warning::default(),
            outage: Outage::default(),
        }
    }
}

impl ResilientLevel {
    pub(in crate::cached) fn new(level: Arc<dyn SecondLevel>) -> Self {
        let failed = |step| Counter::new("mcp_patterns_cache_second_level_failures_total", &[("step", step)]);
        Self {
            level,
            reads: Breaker::new("read"),
            writes: Breaker::new("write"),
            failures: Count::default(),
            skipped: Count::default(),
            failed: STEPS.map(failed),
            subscription: Outage::default(),
            setback: Warning::default(),
            panicking: Warning::default(),
        }
    }

    pub(in crate::cached) async fn get(&self, limit: Duration, key: &[u8], keys: &[u64]) -> Option<Read> {
        self.run(&self.reads, limit, Step::Get, || (*self.level).get(key, keys)).await
    }

    pub(in crate::cached) async fn put(&self, limit: Duration, values: &[Put]) -> Option<()> {
        self.run(&self.writes, limit, Step::Put, || (*self.level).put(values)).await
    }

    pub(in crate::cached) async fn invalidate(&self, limit: Duration, origin: u64, keys: &[u64]) -> Option<u64> {
        self.run(&self.writes, limit, Step::Invalidate, || (*self.level).invalidate(origin, keys)).await
    }

    pub(in crate::cached) async fn raise(&self, limit: Duration, key: &[u8], keys: &[u64], number: u64) -> Option<()> {
        if let Some(unsaid) = self.setback.due() {
            tracing::warn!(unsaid, "the second level of the cache has lost invalidations, so its values are dropped");
        }
        self.run(&self.writes, limit, Step::Raise, || (*self.level).raise(key, keys, number)).await
    }

    pub(in crate::cached) async fn acquire(
        &self,
        limit: Duration,
        key: &[u8],
        token: u64,
        lease: Duration,
    ) -> Option<bool> {
        self.run(&self.writes, limit, Step::Acquire, || (*self.level).acquire(key, token, lease)).await
    }

    pub(in crate::cached) async fn release(&self, limit: Duration, key: &[u8], token: u64) -> Option<()> {
        self.run(&self.writes, limit, Step::Release, || (*self.level).release(key, token)).await
    }

    /// `None` where the level has no subscriptions, `Some(None)` where this one failed.
    pub(in crate::cached) async fn subscribe(&self, limit: Duration) -> Option<Option<Subscription>> {
        match attempt(limit, || (*self.level).subscribe()).await {
            Ok(subscription) => {
                if let Some(Over { after_ms, failures }) = self.subscription.worked() {
                    tracing::info!(after_ms, failures, "the cache receives the invalidations of other replicas again");
                }
                subscription.map(Some)
            }
            Err(error) => {
                self.failed(&self.subscription, Step::Subscribe, &error);
                Some(None)
            }
        }
    }

    /// Returns the next invalidation of a subscription, or `None` at its end. A subscription that panics has ended.
    pub(in crate::cached) async fn next(&self, subscription: &mut Subscription) -> Option<Invalidation> {
        match AssertUnwindSafe(async { subscription.next().await }).catch_unwind().await {
            Ok(received) => received,
            Err(_) => {
                self.failed(&self.subscription, Step::Subscribe, &LevelError::new(PANICKED));
                None
            }
        }
    }

    /// Logs that work in the background has panicked. It begins again.
    pub(in crate::cached) fn has_panicked(&self, work: &'static str) {
        if let Some(unsaid) = self.panicking.due() {
            tracing::warn!(
                work,
                unsaid,
                "the background work for the second level of the cache panicked, and begins again"
            );
        }
    }

    /// Logs that a subscription has ended.
    pub(in crate::cached) fn subscription_has_ended(&self) {
        if let Some(unsaid) = self.subscription.failed() {
            tracing::warn!(
                unsaid,
                "the cache does not receive the invalidations of other replicas until it is connected again"
            );
        }
    }

    /// Says whether the breaker lets all steps that write through.
    pub(in crate::cached) fn can_write(&self) -> bool {
        self.writes.circuit.state() == State::Closed
    }

    pub(in crate::cached) fn is_open(&self) -> bool {
        [&self.reads, &self.writes].iter().any(|breaker| breaker.circuit.state() == State::Open)
    }

    async fn run<T, F>(&self, breaker: &Breaker, limit: Duration, step: Step, call: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, LevelError>>,
    {
        let Ok((permit, _)) = breaker.circuit.admit(REPLICA) else {
            self.skipped.add();
            return None;
        };
        let error = match attempt(limit, call).await {
            Ok(done) => {
                let has_closed = permit.succeeded().is_some();
                if has_closed {
                    breaker.closed.increment();
                }
                let steps = breaker.name;
                match breaker.outage.worked() {
                    Some(Over { after_ms, failures }) => {
                        tracing::info!(steps, after_ms, failures, "the second level of the cache is used again");
                    }
                    None if has_closed => tracing::info!(steps, "the second level of the cache is used again"),
                    None => {}
                }
                return Some(done);
            }
            Err(error) => error,
        };
        self.failures.add();
        // A probe that fails leaves it open.
        if permit.failed(Failed::Failure).is_some_and(|change| change.from == State::Closed) {
            breaker.opened.increment();
            if let Some(unsaid) = breaker.opening.due() {
                let steps = breaker.name;
                tracing::warn!(steps, %error, unsaid, "the second level of the cache fails repeatedly, so it is not used for a while");
            }
        }
        self.failed(&breaker.outage, step, &error);
        None
    }

    fn failed(&self, outage: &Outage, step: Step, error: &LevelError) {
        self.failed[step as usize].increment();
        if let Some(unsaid) = outage.failed() {
            tracing::warn!(step = STEPS[step as usize], %error, unsaid, "the second level of the cache failed");
        }
    }
}

/// Runs a step of a level that may hang or panic.
async fn attempt<T, F>(limit: Duration, step: impl FnOnce() -> F) -> Result<T, LevelError>
where
    F: Future<Output = Result<T, LevelError>>,
{
    match timeout(limit, AssertUnwindSafe(async { step().await }).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(LevelError::new(PANICKED)),
        Err(_) => Err(LevelError::new("it took too long")),
    }
}

/// The panic hook has logged the details.
const PANICKED: &str = "it panicked, which is a bug in it";
