//! An open transaction, and its end in every case.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::dialect::{Dialect, NotCommitted};
use super::hooks::{Hooks, Running, invalidate};
use super::options::Begin;
use super::reuse::Reuse;
use crate::connections::{Place, Pooled, RETURN_TIMEOUT, no_answer};
use crate::detached::run_to_end;
use crate::fault::{self, Fault};
use crate::masked::{CallLabel, error_id};
use crate::telemetry::Warning;

/// An open transaction. Its drop rolls it back.
pub(super) struct Open<DB: Dialect> {
    connection: Option<Pooled<DB>>,
    begin: Begin,
    permits: Permits,
    return_to: Option<ReturnTo<DB>>,
}

/// The permits that a transaction holds until it has ended.
#[derive(Clone, Default)]
pub(super) struct Permits {
    _write: Option<WritePermit>,
    _place: Option<Arc<Place>>,
}

impl Permits {
    pub(super) fn new(write: Option<WritePermit>, place: Option<Arc<Place>>) -> Self {
        Self { _write: write, _place: place }
    }
}

/// The destination of a connection after its commit, and since when the pool has lent it.
pub(super) struct ReturnTo<DB: Dialect> {
    pub(super) reuse: Arc<Reuse<DB>>,
    pub(super) lent_at: Instant,
}

/// Lets writers of one process begin in the order in which they came.
pub(super) type WriteQueue = Arc<Semaphore>;

/// The right of one writer to write, until its transaction has ended.
pub(super) type WritePermit = Arc<OwnedSemaphorePermit>;

/// The timeout of a commit. The server's answer matters more than the connection.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a transaction was committed.
pub(super) enum Committed {
    /// It was, and its hooks are running.
    Yes(Option<Running>),
    /// Nothing was done. The log has the error under this id.
    No(Fault, String),
    /// It no longer existed at its end: its body had ended it, and may have continued without one.
    EndedEarly,
    /// The log has the error under this id. The hooks did not run, but the invalidations did.
    Unknown(String, Hooks),
}

/// The same for a commit that does not know its hooks.
enum NotDone {
    No(Fault, String),
    EndedEarly,
    Unknown(String),
}

impl<DB: Dialect> Open<DB> {
    pub(super) fn new(connection: Pooled<DB>, begin: Begin, permits: Permits) -> Self {
        Self { connection: Some(connection), begin, permits, return_to: None }
    }

    /// Sets where the connection is returned to once the transaction is committed.
    pub(super) fn return_to(mut self, return_to: ReturnTo<DB>) -> Self {
        self.return_to = Some(return_to);
        self
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.begin.read_only
    }

    pub(super) fn connection(&mut self) -> Option<&mut DB::Connection> {
        self.connection.as_deref_mut()
    }

    /// Commits with `last` as the last statement, and runs the hooks. A caller who leaves stops neither.
    pub(super) async fn commit(mut self, last: Option<String>, hooks: Hooks) -> Committed {
        let Some(connection) = self.connection.take() else { return Committed::EndedEarly };
        let committed = commit(connection, self.begin, last, take(&mut self.permits), self.return_to.take());
        let ended = async move {
            match committed.await {
                Ok(()) => Committed::Yes(hooks.run()),
                Err(not) => {
                    if matches!(not, NotDone::Unknown(_) | NotDone::EndedEarly) {
                        invalidate(&hooks.invalidations).await;
                    }
                    match not {
                        NotDone::No(fault, id) => Committed::No(fault, id),
                        NotDone::EndedEarly => Committed::EndedEarly,
                        NotDone::Unknown(id) => Committed::Unknown(id, hooks),
                    }
                }
            }
        };
        run_to_end(ended.boxed()).await
    }

    /// Rolls back, also if its caller leaves. Returns false if the transaction no longer existed.
    pub(super) async fn rollback(mut self) -> bool {
        match self.connection.take() {
            Some(connection) => run_to_end(roll_back(connection, self.begin, take(&mut self.permits)).boxed()).await,
            None => true,
        }
    }
}

impl<DB: Dialect> Drop for Open<DB> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Without a runtime, neither the connection nor its pool can be used any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(roll_back(connection, self.begin, take(&mut self.permits)));
        }
    }
}

async fn commit<DB: Dialect>(
    mut connection: Pooled<DB>,
    begin: Begin,
    last: Option<String>,
    _permits: Permits,
    return_to: Option<ReturnTo<DB>>,
) -> Result<(), NotDone> {
    if let Err(error) = DB::before_end(&begin, &mut connection).await {
        return Err(NotDone::No(fault::of_sql(&error).fault, not_committed::<DB>(&error, false)));
    }
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    let Some(committed) = until::<DB, _>(deadline, DB::commit(&mut connection, last)).await else {
        connection.close();
        let id = not_committed::<DB>(&no_answer(), !begin.read_only);
        return Err(if begin.read_only { NotDone::No(Fault::Unavailable, id) } else { NotDone::Unknown(id) });
    };
    let is_chained = committed.map_err(|NotCommitted { error, was_open }| {
        let judged = fault::of_commit(&error);
        // A read has no effect that could be in doubt.
        let may_be_done = judged.may_have_run && !begin.read_only;
        let id = not_committed::<DB>(&error, may_be_done);
        match () {
            () if may_be_done => NotDone::Unknown(id),
            () if was_open => NotDone::No(judged.fault, id),
            () => NotDone::EndedEarly,
        }
    })?;
    if let Some(ReturnTo { reuse, lent_at }) = return_to.filter(|_| is_chained) {
        reuse.give(connection, lent_at);
    }
    Ok(())
}

static NOT_ROLLED_BACK: Warning = Warning::new();

/// Rolls back, and returns the connection in its original state; if that fails, the connection is closed. Returns false
/// if the transaction no longer existed.
async fn roll_back<DB: Dialect>(mut connection: Pooled<DB>, begin: Begin, _permits: Permits) -> bool {
    let failed = |error: sqlx::Error| {
        if let Some(unsaid) = NOT_ROLLED_BACK.due() {
            tracing::warn!(%error, unsaid, "the rollback failed");
        }
        true
    };
    let rolled_back = async {
        let restored = DB::before_end(&begin, &mut connection).await;
        let was_open = DB::rollback(&mut connection).await.unwrap_or_else(failed);
        if let Err(error) = restored {
            failed(error);
        }
        was_open
    };
    if let Some(was_open) = until::<DB, _>(Instant::now() + RETURN_TIMEOUT, rolled_back).await {
        return was_open;
    }
    if let Some(unsaid) = NOT_ROLLED_BACK.due() {
        tracing::warn!(unsaid, "the database did not answer a rollback in time: the connection is closed");
    }
    connection.close();
    true
}

/// Waits for a server no longer than until `deadline`.
pub(super) async fn until<DB: Dialect, F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    if DB::IS_REMOTE { timeout_at(deadline, future).await.ok() } else { Some(future.await) }
}

/// Logs why a transaction was not committed, or may not have been, and returns the id of the error in the log.
fn not_committed<DB: Dialect>(error: &dyn std::fmt::Display, may_be_done: bool) -> String {
    let (id, label) = (error_id(), CallLabel::current());
    let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
    tracing::warn!(%error, may_be_done, id, tool, key_hash, attempt, backend, "the commit failed");
    id
}
