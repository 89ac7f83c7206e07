//! One transaction from begin to end, whatever happens to its body.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout_at};

use super::begin::{self, NotBegun};
use super::current::{TransactionHandle, within};
use super::dialect::Dialect;
use super::error::TransactionError;
use super::hooks::{Hooks, invalidate};
use super::metrics::End;
use super::open::Committed;
use super::options::Begin;
use super::results::{CommitOutcome, Results};
use super::transactor::Transactor;
use crate::cancellation::{Cancellation, cancelled};
use crate::fault::Fault;
use crate::masked::{CallLabel, error_id};
use crate::scope;

/// How long a call waits for the end of its transaction, also after its own timeout: the outcome matters.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for the hooks of its transaction.
const HOOKS_TIMEOUT: Duration = Duration::from_secs(5);

/// The state that all attempts of a call share.
pub(super) struct Attempt<'a, DB: Dialect, C, S> {
    pub(super) transactor: &'a Transactor<DB>,
    pub(super) begin: Begin,
    pub(super) deadline: Option<Instant>,
    pub(super) cancellation: &'a C,
    pub(super) results: &'a S,
}

/// The end of one transaction: its result, or a conflict with another one.
pub(super) enum Ended<R> {
    Done(R, End),
    Conflict(R),
}

impl<DB: Dialect, C: Cancellation, S> Attempt<'_, DB, C, S> {
    pub(super) async fn run<R, F: Future<Output = R>>(&self, body: F) -> Ended<R>
    where
        S: Results<R>,
    {
        let timed_out = || {
            let after = self.begin.timeout.unwrap_or_default();
            self.failed(TransactionError::TimedOut { after }, End::TimedOut)
        };
        let transactor = self.transactor;
        let gone = pin!(cancelled(self.cancellation));
        // An inner transaction would wait for its outer one, which waits for it.
        let is_inner = scope::current::<TransactionHandle<DB>>().is_some();
        let write_queue = (!is_inner).then_some(&transactor.write_queue);
        let around = within(&transactor.pool);
        if around.as_ref().is_some_and(|around| around.bars(!self.begin.read_only)) {
            tracing::error!(
                "a transaction waits for one that it is in: give the pool a connection for each, and SQLite one writer"
            );
            return self.failed(TransactionError::WaitsForItself, End::Unavailable);
        }
        let (connections, reuse) = (&transactor.connections, transactor.reuse.as_ref());
        let begun = begin::begin(connections, reuse, self.begin, write_queue, around.is_none());
        let (begun, gone) = match until(self.deadline, select(pin!(begun), gone)).await {
            None => return timed_out(),
            Some(Either::Right(((), _))) => return self.failed(TransactionError::Cancelled, End::Cancelled),
            Some(Either::Left(begun)) => begun,
        };
        let open = match begun {
            Ok(open) => open,
            Err(NotBegun::Conflict(error)) => return Ended::Conflict(self.results.failure(error)),
            Err(NotBegun::Failed(error)) => return self.failed(error, End::Unavailable),
        };
        let handle = Arc::new(TransactionHandle::new(open, Arc::clone(&transactor.connections)));
        let within = scope::capture().with(Arc::clone(&handle)).with(Arc::clone(&handle.control));
        let body = within.enter(AssertUnwindSafe(body).catch_unwind());
        let result = match until(self.deadline, select(pin!(body), gone)).await {
            // A dropped transaction is rolled back in its own task: its caller does not wait for a running statement.
            None => return timed_out(),
            Some(Either::Right(((), _))) => return self.failed(TransactionError::Cancelled, End::Cancelled),
            Some(Either::Left((Ok(result), _))) => result,
            Some(Either::Left((Err(panic), _))) => {
                drop(handle);
                resume_unwind(panic)
            }
        };
        self.end(&handle, result).await
    }

    fn failed<R>(&self, error: TransactionError, end: End) -> Ended<R>
    where
        S: Results<R>,
    {
        Ended::Done(self.results.failure(error), end)
    }

    async fn end<R>(&self, handle: &TransactionHandle<DB>, mut result: R) -> Ended<R>
    where
        S: Results<R>,
    {
        let (control, results) = (&handle.control, self.results);
        let success = results.is_success(&result);
        let Some(open) = handle.take() else {
            return match success {
                true => self.failed(TransactionError::Leaked, End::Leaked),
                false => Ended::Done(result, End::RolledBack),
            };
        };
        let until = Instant::now() + END_TIMEOUT;
        let until = self.deadline.map_or(until, |deadline| deadline.max(until));
        if !success || control.is_doomed() || control.is_rollback_only() || self.cancellation.is_cancelled() {
            // The locks are released before the caller gets the failure, unless that takes long.
            let was_open = timeout_at(until, open.rollback()).await.unwrap_or(true) || control.was_undone();
            return match () {
                // An effect that exists already must not be repeated.
                () if !was_open && success => self.failed(TransactionError::EndedEarly, End::EndedEarly),
                () if !was_open => {
                    results.note_ended_early(&mut result);
                    Ended::Done(result, End::EndedEarly)
                }
                () if control.has_conflict() => Ended::Conflict(result),
                () if !success => Ended::Done(result, End::RolledBack),
                () if control.is_doomed() => self.failed(TransactionError::RolledBack, End::RolledBack),
                () if control.is_rollback_only() => Ended::Done(result, End::RolledBack),
                () => self.failed(TransactionError::Cancelled, End::Cancelled),
            };
        }
        let last = results.take_last_statement(&mut result);
        #[cfg_attr(not(feature = "cached"), expect(unused_mut, reason = "only a cache invalidates"))]
        let mut hooks = control.take_hooks();
        #[cfg(feature = "cached")]
        hooks.add_those_around();
        let invalidations = hooks.invalidations.clone();
        match timeout_at(until, open.commit(last, hooks)).await {
            Ok(Committed::Yes(hooks)) => {
                if let Some(hooks) = hooks {
                    hooks.wait(HOOKS_TIMEOUT).await;
                }
                Ended::Done(result, End::Committed)
            }
            Ok(Committed::EndedEarly) if control.was_undone() => {
                self.failed(TransactionError::RolledBack, End::RolledBack)
            }
            Ok(Committed::EndedEarly) => self.failed(TransactionError::EndedEarly, End::EndedEarly),
            Ok(Committed::No(Fault::Conflict, _)) => Ended::Conflict(result),
            // The body has ignored the conflict.
            Ok(Committed::No(..)) if control.has_conflict() => Ended::Conflict(result),
            Ok(Committed::No(Fault::Unavailable, id)) => {
                self.failed(TransactionError::Unavailable { id }, End::Unavailable)
            }
            Ok(Committed::No(fault @ Fault::Timeout, id)) => {
                self.failed(TransactionError::Statement { fault, id }, End::TimedOut)
            }
            Ok(Committed::No(Fault::Permanent, _)) => self.failed(TransactionError::RolledBack, End::RolledBack),
            Ok(Committed::Unknown(id, hooks)) => self.look_up_commit(result, id, hooks).await,
            Err(_) => {
                let (id, label) = (error_id(), CallLabel::current());
                let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
                tracing::warn!(
                    id,
                    tool,
                    key_hash,
                    attempt,
                    backend,
                    "a commit was not answered in time: it continues in the background"
                );
                // The commit continues in a task of its own. Its end invalidates again.
                invalidate(&invalidations).await;
                // If it is committed, that task runs its hooks.
                self.look_up_commit(result, id, Hooks::default()).await
            }
        }
    }

    /// Ends a transaction whose commit was not answered, with its outcome if that can be looked up.
    async fn look_up_commit<R>(&self, result: R, id: String, hooks: Hooks) -> Ended<R>
    where
        S: Results<R>,
    {
        let outcome = match self.results.look_up_commit(&result) {
            Some(outcome) => outcome.await,
            None => CommitOutcome::Unknown,
        };
        let label = CallLabel::current();
        let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
        let found = match &outcome {
            CommitOutcome::Committed => "committed",
            CommitOutcome::OtherResult(_) | CommitOutcome::RolledBack => "rolled_back",
            CommitOutcome::Unknown => "nothing",
        };
        tracing::info!(id, tool, key_hash, attempt, backend, found, "the outcome of a commit was looked up");
        match outcome {
            CommitOutcome::Committed => {
                if let Some(hooks) = hooks.run() {
                    hooks.wait(HOOKS_TIMEOUT).await;
                }
                Ended::Done(result, End::Committed)
            }
            CommitOutcome::OtherResult(result) => Ended::Done(result, End::Unused),
            CommitOutcome::RolledBack => self.failed(TransactionError::Unavailable { id }, End::Unavailable),
            CommitOutcome::Unknown => self.failed(TransactionError::Unknown { id }, End::Unknown),
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
