//! A body's way through transactions to its end.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use tokio::time::{Instant, timeout_at};

use super::current::{Part, within};
use super::dialect::Dialect;
use super::error::TransactionError;
use super::hooks::{Hooks, invalidate};
use super::in_doubt::FoundOut;
use super::metrics::End;
use super::open::{Committed, NotBegun, Open};
use super::options::{Begin, Propagation};
use super::savepoint::{join, savepoint};
use super::transactor::Transactor;
use crate::cancellation::{Cancellation, cancelled};
use crate::clock::later;
use crate::fault::Fault;
use crate::masked::{CallLabel, error_id};
use crate::retry::{Judge, Verdict};
use crate::scope;

/// How long the end of a transaction is waited for, even if its time is over: it is worth knowing.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Knows the results of what runs in a transaction.
pub(super) trait Results<R>: Sync {
    fn is_success(&self, result: &R) -> bool;

    fn failed(&self, error: TransactionError) -> R;

    /// Whether the transaction that it is a part of may be committed.
    fn spares_the_whole(&self, result: &R) -> bool {
        self.is_success(result)
    }

    /// Takes the statement that a success is to be committed with.
    fn take_last_statement(&self, _: &mut R) -> Option<String> {
        None
    }

    /// Tells of a failure that the transaction had ended before, so that some of it may be done.
    fn note_ended_early(&self, _: &mut R) {}

    /// Tells that it took several transactions.
    fn note_attempts(&self, _: &mut R, _: u32) {}

    /// Finds out whether a transaction with this result was committed, where there is a way.
    fn find_out<'a>(&'a self, _: &'a R) -> Option<BoxFuture<'a, FoundOut<R>>> {
        None
    }

    /// Hears how a transaction ended that was no part of another one. Without a result, its caller has none.
    fn note_end(&self, _: Option<&R>, _: End) {}

    /// Names the call for the log, at an attempt of its transaction.
    fn label(&self, attempt: u32) -> CallLabel {
        CallLabel::current().with_attempt(attempt)
    }

    /// Hears that it gave way to another, and that a new one is to begin.
    fn note_retry(&self) {}

    /// Whether what ran may run again in a new one.
    fn may_repeat(&self) -> bool {
        true
    }
}

/// One transaction's end: its result, or that it gave way to another.
pub(super) enum Ended<R> {
    Done(R, End),
    Conflict(R),
}

impl<DB: Dialect> Transactor<DB> {
    /// Whether what runs now is to be a transaction of its own, and not a part of one.
    pub(super) fn begins_one(&self) -> bool {
        self.propagation == Propagation::RequiresNew || scope::current::<Part<DB>>().is_none()
    }

    pub(super) async fn drive<R, B, F>(
        &self,
        read_only: bool,
        cancellation: &impl Cancellation,
        results: &impl Results<R>,
        mut body: B,
    ) -> R
    where
        B: FnMut() -> F,
        F: Future<Output = R>,
    {
        // Boxed, a body in a body in a body stays small.
        let mut body = || Box::pin(body());
        let outer = match self.propagation {
            Propagation::RequiresNew => None,
            _ => scope::current::<Part<DB>>(),
        };
        match (self.propagation, outer) {
            (Propagation::Mandatory, None) => results.failed(TransactionError::None),
            (Propagation::Nested, Some(outer)) => savepoint(&outer, results, body()).await,
            (_, Some(outer)) => join(&outer.control, results, body()).await,
            (_, None) => {
                let begin = Begin { read_only: self.begin.read_only || read_only, ..self.begin };
                let deadline = begin.timeout.map(|timeout| later(Instant::now(), timeout));
                let left = Left { results, is_armed: true, result: PhantomData };
                let judge = ByEnd(results);
                let driven = self
                    .policy
                    .drive(cancellation, &judge, |attempt| {
                        let attempted = self.attempt(begin, deadline, cancellation, results, body());
                        scope::capture().with(Arc::new(results.label(attempt))).enter(attempted)
                    })
                    .await;
                let (mut result, end) = match driven.result {
                    Ended::Done(result, end) => (result, end),
                    Ended::Conflict(_) if driven.exhausted.is_some() => {
                        (results.failed(TransactionError::Conflict { attempts: driven.attempts }), End::Conflict)
                    }
                    Ended::Conflict(result) => (result, End::Conflict),
                };
                left.disarm();
                results.note_end(Some(&result), end);
                if driven.attempts > 1 && !matches!(end, End::Conflict) {
                    results.note_attempts(&mut result, driven.attempts);
                }
                result
            }
        }
    }

    async fn attempt<R, F: Future<Output = R>>(
        &self,
        begin: Begin,
        deadline: Option<Instant>,
        cancellation: &impl Cancellation,
        results: &impl Results<R>,
        body: F,
    ) -> Ended<R> {
        let failed = |error, end| Ended::Done(results.failed(error), end);
        let timed_out =
            || failed(TransactionError::TimedOut { after: begin.timeout.unwrap_or_default() }, End::TimedOut);
        let gone = pin!(cancelled(cancellation));
        // An inner transaction would wait for its outer one, which waits for it.
        let turns = scope::current::<Part<DB>>().is_none().then_some(&self.turns);
        let around = within(&self.pool);
        if around.as_ref().is_some_and(|around| around.bars(!begin.read_only)) {
            tracing::error!(
                "a transaction waits for one that it is in: give the pool a connection for each, and SQLite one writer"
            );
            return failed(TransactionError::WaitsForItself, End::Unavailable);
        }
        let begun = Open::begin(&self.connections, self.reuse.as_ref(), begin, turns, around.is_none());
        let (begun, gone) = match until(deadline, select(pin!(begun), gone)).await {
            None => return timed_out(),
            Some(Either::Right(((), _))) => return failed(TransactionError::Cancelled, End::Cancelled),
            Some(Either::Left(begun)) => begun,
        };
        let open = match begun {
            Ok(open) => open,
            Err(NotBegun::Conflict(error)) => return Ended::Conflict(results.failed(error)),
            Err(NotBegun::Failed(error)) => return failed(error, End::Unavailable),
        };
        let part = Arc::new(Part::new(open, Arc::clone(&self.connections)));
        let control = Arc::clone(&part.control);
        let within = scope::capture().with(Arc::clone(&part)).with(Arc::clone(&control));
        let body = within.enter(AssertUnwindSafe(body).catch_unwind());
        let result = match until(deadline, select(pin!(body), gone)).await {
            // A transaction that is dropped is rolled back behind the scenes: a statement that runs is not waited for.
            None => return timed_out(),
            Some(Either::Right(((), _))) => return failed(TransactionError::Cancelled, End::Cancelled),
            Some(Either::Left((Ok(result), _))) => result,
            Some(Either::Left((Err(panic), _))) => {
                drop(part);
                resume_unwind(panic)
            }
        };
        self.end(&part, deadline, cancellation, results, result).await
    }

    async fn end<R>(
        &self,
        part: &Part<DB>,
        deadline: Option<Instant>,
        cancellation: &impl Cancellation,
        results: &impl Results<R>,
        mut result: R,
    ) -> Ended<R> {
        let control = &part.control;
        let failed = |error, end| Ended::Done(results.failed(error), end);
        let success = results.is_success(&result);
        let Some(open) = part.take() else {
            return match success {
                true => failed(TransactionError::Leaked, End::Leaked),
                false => Ended::Done(result, End::RolledBack),
            };
        };
        let patience = Instant::now() + PATIENCE;
        let patience = deadline.map_or(patience, |deadline| deadline.max(patience));
        if !success || control.is_doomed() || control.is_rollback_only() || cancellation.is_cancelled() {
            // The locks are let go before the caller hears of the failure, if that does not take long.
            let was_open = timeout_at(patience, open.rollback()).await.unwrap_or(true) || control.was_undone();
            return match () {
                // What is done already is not to be done again.
                () if !was_open && success => failed(TransactionError::EndedEarly, End::EndedEarly),
                () if !was_open => {
                    results.note_ended_early(&mut result);
                    Ended::Done(result, End::EndedEarly)
                }
                () if control.has_conflict() => Ended::Conflict(result),
                () if !success => Ended::Done(result, End::RolledBack),
                () if control.is_doomed() => failed(TransactionError::RolledBack, End::RolledBack),
                () if control.is_rollback_only() => Ended::Done(result, End::RolledBack),
                () => failed(TransactionError::Cancelled, End::Cancelled),
            };
        }
        let last = results.take_last_statement(&mut result);
        #[cfg_attr(not(feature = "cached"), expect(unused_mut, reason = "only a cache invalidates"))]
        let mut hooks = control.take_hooks();
        #[cfg(feature = "cached")]
        hooks.add_those_around();
        let invalidations = hooks.invalidations.clone();
        match timeout_at(patience, open.commit(last, hooks)).await {
            Ok(Committed::Yes(hooks)) => {
                if let Some(hooks) = hooks {
                    hooks.wait(PATIENCE).await;
                }
                Ended::Done(result, End::Committed)
            }
            Ok(Committed::EndedEarly) if control.was_undone() => failed(TransactionError::RolledBack, End::RolledBack),
            Ok(Committed::EndedEarly) => failed(TransactionError::EndedEarly, End::EndedEarly),
            Ok(Committed::No(Fault::Conflict, _)) => Ended::Conflict(result),
            // The body has swallowed it.
            Ok(Committed::No(..)) if control.has_conflict() => Ended::Conflict(result),
            Ok(Committed::No(Fault::Unavailable, id)) => failed(TransactionError::Unavailable { id }, End::Unavailable),
            Ok(Committed::No(fault @ Fault::Timeout, id)) => {
                failed(TransactionError::Statement { fault, id }, End::TimedOut)
            }
            Ok(Committed::No(Fault::Permanent, _)) => failed(TransactionError::RolledBack, End::RolledBack),
            Ok(Committed::Unknown(id, hooks)) => self.find_out(results, result, id, hooks).await,
            Err(_) => {
                let (id, label) = (error_id(), CallLabel::current());
                let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
                tracing::warn!(id, tool, key_hash, attempt, backend, "a commit was not answered in time, and goes on");
                // The commit goes on, and its end invalidates again.
                invalidate(&invalidations).await;
                // Where it is committed, its hooks are run.
                self.find_out(results, result, id, Hooks::default()).await
            }
        }
    }
}

/// Waits no longer than until `deadline`.
async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Tells of the end of a transaction whose caller has left, or whose body has panicked.
struct Left<'a, R, S: Results<R>> {
    results: &'a S,
    is_armed: bool,
    result: PhantomData<fn(R)>,
}

impl<R, S: Results<R>> Left<'_, R, S> {
    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl<R, S: Results<R>> Drop for Left<'_, R, S> {
    fn drop(&mut self) {
        if self.is_armed {
            let end = if std::thread::panicking() { End::Panicked } else { End::Cancelled };
            self.results.note_end(None, end);
        }
    }
}

/// Judges the ends of transactions for the policy that tries them again.
struct ByEnd<'a, S>(&'a S);

impl<R, S: Results<R>> Judge<Ended<R>> for ByEnd<'_, S> {
    fn verdict(&self, ended: &Ended<R>) -> Option<Verdict> {
        match ended {
            Ended::Done(..) => None,
            Ended::Conflict(_) => Some(Verdict::Temporary { retry_after: None, throttled: false }),
        }
    }

    fn timed_out(&self, after: Duration) -> Ended<R> {
        Ended::Done(self.0.failed(TransactionError::TimedOut { after }), End::TimedOut)
    }

    fn will_retry(&self, attempt: u32, _: &Ended<R>, delay: Duration) {
        self.0.note_retry();
        tracing::debug!(attempt, ?delay, "transaction gave way to another, beginning a new one");
    }

    fn may_repeat(&self) -> bool {
        self.0.may_repeat()
    }
}
