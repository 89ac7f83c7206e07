//! A transaction that is open, and how it ends whatever happens.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Database, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::dialect::{Dialect, NotCommitted};
use super::error::TransactionError;
use super::hooks::{Hooks, Running, invalidate};
use super::options::{Begin, Unsupported};
use super::reuse::{Reuse, Taken};
use crate::connections::{Connections, Place, Pooled, RETURN_TIMEOUT, no_answer};
use crate::detached::finish;
use crate::fault::{self, Fault};
use crate::masked::{CallLabel, error_id};
use crate::telemetry::{Over, Warning};

/// An open transaction. Its drop rolls it back.
pub(super) struct Open<DB: Dialect> {
    connection: Option<Pooled<DB>>,
    begin: Begin,
    rights: Rights,
    heir: Option<Heir<DB>>,
}

/// What a transaction may, until it has ended.
#[derive(Clone, Default)]
struct Rights {
    _turn: Option<Turn>,
    _place: Option<Arc<Place>>,
}

/// Who gets the connection once the transaction is committed, and since when the pool has lent it.
type Heir<DB> = (Arc<Reuse<DB>>, Instant);

/// Lets writers of one process begin in the order in which they came.
pub(super) type Turns = Arc<Semaphore>;

/// A writer's turn, until its transaction has ended.
type Turn = Arc<OwnedSemaphorePermit>;

/// How long a writer waits for its turn before it takes its chance in the database.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to commit. Its answer is worth more than the connection.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a transaction was committed.
pub(super) enum Committed {
    /// It was, and what waited for that is running.
    Yes(Option<Running>),
    /// Nothing was done. The log has the error under this id.
    No(Fault, String),
    /// There was none any more at its end: what ran in it has ended it by itself, and may have gone on without one.
    EndedEarly,
    /// The log has the error under this id. What is registered was not run, but what it invalidates is invalidated.
    Unknown(String, Hooks),
}

/// The same of a commit that does not know what waits for it.
enum NotDone {
    No(Fault, String),
    EndedEarly,
    Unknown(String),
}

/// Why a transaction was not begun.
pub(super) enum NotBegun {
    Conflict(TransactionError),
    Failed(TransactionError),
}

impl<DB: Dialect> Open<DB> {
    /// Begins a transaction, unless its caller leaves while it waits for a connection.
    ///
    /// Where the database has one writer at a time, those of this process wait in `turns` for each other, each without a
    /// connection: in the database they would sleep, and wake up by chance. Who `is_outermost`, in no other transaction on the pool,
    /// waits for a place among the connections, too. All of this ends when the pool's time to acquire a connection is over.
    pub(super) async fn begin(
        connections: &Connections<DB>,
        reuse: Option<&Arc<Reuse<DB>>>,
        begin: Begin,
        turns: Option<&Turns>,
        is_outermost: bool,
    ) -> Result<Self, NotBegun> {
        let sql = DB::begin(&begin).map_err(|Unsupported(setting)| NotBegun::Failed(not_begun::<DB>(&setting)))?;
        let deadline = connections.deadline();
        let begun = async {
            let turn = match turns.filter(|_| DB::HAS_ONE_WRITER && !begin.read_only) {
                Some(turns) => {
                    // Half of the time is left for the rest.
                    let patience = ((deadline - Instant::now()) / 2).min(TURN_TIMEOUT);
                    timeout(patience, Arc::clone(turns).acquire_owned()).await.ok().and_then(Result::ok).map(Arc::new)
                }
                None => None,
            };
            let place = if is_outermost { Some(Arc::new(connections.place(deadline).await?)) } else { None };
            let rights = Rights { _turn: turn, _place: place };
            match reuse {
                None => Self::begin_on_another(connections, begin, sql, rights, deadline).await,
                Some(reuse) => Self::begin_on_free(connections, reuse, begin, sql, rights, deadline).await,
            }
        };
        let begun = begun.await;
        if begun.is_ok()
            && let Some(Over { after_ms, failures }) = connections.outage.worked()
        {
            tracing::info!(after_ms, failures, backend = DB::NAME, "transactions can be begun again");
        }
        begun.map_err(|error| {
            if !is_outermost && matches!(error, sqlx::Error::PoolTimedOut) {
                static FULL: Warning = Warning::new();
                if let Some(unsaid) = FULL.due() {
                    tracing::warn!(
                        unsaid,
                        "a transaction inside another one found no connection in time: give the pool more of them"
                    );
                }
                return NotBegun::Failed(TransactionError::Overloaded);
            }
            let not_begun = not_begun::<DB>(&error);
            if fault::of_sql(&error).fault == Fault::Conflict {
                return NotBegun::Conflict(not_begun);
            }
            // Each is said, since its caller has its id: this counts for the log's word that it is over.
            connections.outage.failed();
            NotBegun::Failed(not_begun)
        })
    }

    /// Begins on a connection that nobody has tested: if it is dead, or silent, on another.
    async fn begin_on_free(
        connections: &Connections<DB>,
        reuse: &Arc<Reuse<DB>>,
        begin: Begin,
        sql: String,
        rights: Rights,
        deadline: Instant,
    ) -> Result<Self, sqlx::Error> {
        let taken = reuse.take(deadline).await?;
        let answers_until = deadline.min(Instant::now() + connections.answer_timeout());
        let begin_on = |connection, deadline| Self::begin_on(connection, begin, sql.clone(), rights.clone(), deadline);
        let (begun, lent) = match taken {
            Taken::Tested(connection) => (Some(begin_on(connection, deadline).await), None),
            Taken::Untested(connection) => match begin_on(connection, answers_until).await {
                Err(error) if fault::of_sql(&error).fault == Fault::Unavailable => (None, None),
                begun => (Some(begun), None),
            },
            Taken::Spent(spent) => match spent.begin(&sql, answers_until).await {
                Ok((connection, lent)) => (Some(Ok(Self::new(connection, begin, rights.clone()))), Some(lent)),
                Err(_) => (None, None),
            },
        };
        let mut open = match begun {
            Some(begun) => begun?,
            None => {
                if Instant::now() >= answers_until {
                    connections.test_idle();
                }
                Self::begin_on_another(connections, begin, sql, rights, deadline).await?
            }
        };
        open.heir = Some((Arc::clone(reuse), lent.unwrap_or_else(Instant::now)));
        Ok(open)
    }

    /// Begins on a connection that the pool has tested.
    async fn begin_on_another(
        connections: &Connections<DB>,
        begin: Begin,
        sql: String,
        rights: Rights,
        deadline: Instant,
    ) -> Result<Self, sqlx::Error> {
        Self::begin_on(connections.acquire_until(deadline).await?, begin, sql, rights, deadline).await
    }

    /// A begin is not left half-way: sqlx would hand a connection of PostgreSQL's back to the pool that is inside a transaction
    /// and does not know it, and on SQLite the turn would be over before the transaction. One that a server does not answer ends with
    /// its connection; SQLite's ends with its `busy_timeout`.
    async fn begin_on(
        mut connection: Pooled<DB>,
        begin: Begin,
        sql: String,
        rights: Rights,
        deadline: Instant,
    ) -> Result<Self, sqlx::Error> {
        let begun = async move {
            let statement = Some(AssertSqlSafe(sql).into_sql_str());
            let begun = <DB as Database>::TransactionManager::begin(&mut connection, statement);
            match until::<DB, _>(deadline, begun).await {
                Some(begun) => begun.map(|()| Self::new(connection, begin, rights)),
                None => {
                    connection.close();
                    Err(no_answer())
                }
            }
        };
        finish(begun.boxed()).await
    }

    fn new(connection: Pooled<DB>, begin: Begin, rights: Rights) -> Self {
        Self { connection: Some(connection), begin, rights, heir: None }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.begin.read_only
    }

    pub(super) fn connection(&mut self) -> Option<&mut DB::Connection> {
        self.connection.as_deref_mut()
    }

    /// Commits with `last` as the last statement, and has the hooks run: a caller who leaves changes neither.
    pub(super) async fn commit(mut self, last: Option<String>, hooks: Hooks) -> Committed {
        let Some(connection) = self.connection.take() else { return Committed::EndedEarly };
        let committed = commit(connection, self.begin, last, take(&mut self.rights), self.heir.take());
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
        finish(ended.boxed()).await
    }

    /// Rolls back, whether or not its caller waits for it. False if there was nothing any more to roll back.
    pub(super) async fn rollback(mut self) -> bool {
        match self.connection.take() {
            Some(connection) => finish(roll_back(connection, self.begin, take(&mut self.rights)).boxed()).await,
            None => true,
        }
    }
}

impl<DB: Dialect> Drop for Open<DB> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Without a runtime the connection cannot be used any more, and its pool neither.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(roll_back(connection, self.begin, take(&mut self.rights)));
        }
    }
}

async fn commit<DB: Dialect>(
    mut connection: Pooled<DB>,
    begin: Begin,
    last: Option<String>,
    _rights: Rights,
    heir: Option<Heir<DB>>,
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
        // A read leaves nothing that could be in doubt.
        let may_be_done = judged.may_have_run && !begin.read_only;
        let id = not_committed::<DB>(&error, may_be_done);
        match () {
            () if may_be_done => NotDone::Unknown(id),
            () if was_open => NotDone::No(judged.fault, id),
            () => NotDone::EndedEarly,
        }
    })?;
    if let Some((reuse, lent)) = heir.filter(|_| is_chained) {
        reuse.give(connection, lent);
    }
    Ok(())
}

static NOT_ROLLED_BACK: Warning = Warning::new();

/// Hands the connection back as it was. One on which that fails is closed. False if there was no transaction any more.
async fn roll_back<DB: Dialect>(mut connection: Pooled<DB>, begin: Begin, _rights: Rights) -> bool {
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
async fn until<DB: Dialect, F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    if DB::IS_REMOTE { timeout_at(deadline, future).await.ok() } else { Some(future.await) }
}

/// Logs why no transaction could be begun.
fn not_begun<DB: Dialect>(error: &dyn std::fmt::Display) -> TransactionError {
    let (id, label) = (error_id(), CallLabel::current());
    let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
    tracing::warn!(%error, id, tool, key_hash, attempt, backend, "no transaction could be begun");
    TransactionError::Unavailable { id }
}

/// Logs why a transaction was not committed, or may not have been, and returns what the log calls the error.
fn not_committed<DB: Dialect>(error: &dyn std::fmt::Display, may_be_done: bool) -> String {
    let (id, label) = (error_id(), CallLabel::current());
    let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
    tracing::warn!(%error, may_be_done, id, tool, key_hash, attempt, backend, "the commit failed");
    id
}
