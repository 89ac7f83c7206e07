//! The begin of a transaction: in the order of the writers, on a working connection, and completely or not at all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Database, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{Instant, timeout};

use super::dialect::Dialect;
use super::error::TransactionError;
use super::open::{Open, Permits, ReturnTo, WriteQueue, until};
use super::options::{Begin, Unsupported};
use super::reuse::{Reuse, Taken};
use crate::connections::{Connections, Pooled, no_answer};
use crate::detached::run_to_end;
use crate::fault::{self, Fault};
use crate::masked::{CallLabel, error_id};
use crate::telemetry::{Over, Warning};

/// How long a writer waits for its permit before it competes in the database.
const WRITE_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a transaction was not begun.
pub(super) enum NotBegun {
    Conflict(TransactionError),
    Failed(TransactionError),
}

/// Begins a transaction, unless its caller leaves while it waits for a connection.
///
/// If the database has one writer at a time, those of this process wait in `write_queue`, each without a connection: in
/// the database they would sleep, and wake up in random order. A transaction that `is_outermost`, inside no other one
/// on the pool, also waits for a place among the connections. All these waits end with the pool's acquire timeout.
pub(super) async fn begin<DB: Dialect>(
    connections: &Connections<DB>,
    reuse: Option<&Arc<Reuse<DB>>>,
    begin: Begin,
    write_queue: Option<&WriteQueue>,
    is_outermost: bool,
) -> Result<Open<DB>, NotBegun> {
    let sql = DB::begin(&begin).map_err(|Unsupported(setting)| NotBegun::Failed(not_begun::<DB>(&setting)))?;
    let deadline = connections.deadline();
    let begun = async {
        let write = match write_queue.filter(|_| DB::HAS_ONE_WRITER && !begin.read_only) {
            Some(write_queue) => {
                // Half of the time is left for the rest.
                let limit = ((deadline - Instant::now()) / 2).min(WRITE_QUEUE_TIMEOUT);
                timeout(limit, Arc::clone(write_queue).acquire_owned()).await.ok().and_then(Result::ok).map(Arc::new)
            }
            None => None,
        };
        let place = if is_outermost { Some(Arc::new(connections.place(deadline).await?)) } else { None };
        let permits = Permits::new(write, place);
        match reuse {
            None => begin_on_tested(connections, begin, sql, permits, deadline).await,
            Some(reuse) => begin_on_free(connections, reuse, begin, sql, permits, deadline).await,
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
                    "a transaction inside another one found no connection in time: give the pool more connections"
                );
            }
            return NotBegun::Failed(TransactionError::Overloaded);
        }
        let not_begun = not_begun::<DB>(&error);
        if fault::of_sql(&error).fault == Fault::Conflict {
            return NotBegun::Conflict(not_begun);
        }
        // Each is logged, since its caller has its id. This counts them for the event that reports the end of the
        // outage.
        connections.outage.failed();
        NotBegun::Failed(not_begun)
    })
}

/// Begins on an untested connection: if it is dead, or does not answer, on another.
async fn begin_on_free<DB: Dialect>(
    connections: &Connections<DB>,
    reuse: &Arc<Reuse<DB>>,
    begin: Begin,
    sql: String,
    permits: Permits,
    deadline: Instant,
) -> Result<Open<DB>, sqlx::Error> {
    let taken = reuse.take(deadline).await?;
    let answers_until = deadline.min(Instant::now() + connections.answer_timeout());
    let begin_on = |connection, deadline| begin_on(connection, begin, sql.clone(), permits.clone(), deadline);
    let (begun, lent_at) = match taken {
        Taken::Tested(connection) => (Some(begin_on(connection, deadline).await), None),
        Taken::Untested(connection) => match begin_on(connection, answers_until).await {
            Err(error) if fault::of_sql(&error).fault == Fault::Unavailable => (None, None),
            begun => (Some(begun), None),
        },
        Taken::Chained(chained) => match chained.begin(&sql, answers_until).await {
            Ok((connection, lent_at)) => (Some(Ok(Open::new(connection, begin, permits.clone()))), Some(lent_at)),
            Err(_) => (None, None),
        },
    };
    let open = match begun {
        Some(begun) => begun?,
        None => {
            if Instant::now() >= answers_until {
                connections.test_idle();
            }
            begin_on_tested(connections, begin, sql, permits, deadline).await?
        }
    };
    Ok(open.return_to(ReturnTo { reuse: Arc::clone(reuse), lent_at: lent_at.unwrap_or_else(Instant::now) }))
}

/// Begins on a connection that the pool has tested.
async fn begin_on_tested<DB: Dialect>(
    connections: &Connections<DB>,
    begin: Begin,
    sql: String,
    permits: Permits,
    deadline: Instant,
) -> Result<Open<DB>, sqlx::Error> {
    begin_on(connections.acquire_until(deadline).await?, begin, sql, permits, deadline).await
}

/// Begins completely, also if its caller leaves: otherwise sqlx would return a PostgreSQL connection to the pool inside
/// a transaction without knowing it, and on SQLite the write permit would end before the transaction. A begin without
/// an answer of the server ends with its connection; SQLite's ends with its `busy_timeout`.
async fn begin_on<DB: Dialect>(
    mut connection: Pooled<DB>,
    begin: Begin,
    sql: String,
    permits: Permits,
    deadline: Instant,
) -> Result<Open<DB>, sqlx::Error> {
    let begun = async move {
        let statement = Some(AssertSqlSafe(sql).into_sql_str());
        let begun = <DB as Database>::TransactionManager::begin(&mut connection, statement);
        match until::<DB, _>(deadline, begun).await {
            Some(begun) => begun.map(|()| Open::new(connection, begin, permits)),
            None => {
                connection.close();
                Err(no_answer())
            }
        }
    };
    run_to_end(begun.boxed()).await
}

/// Logs why no transaction could be begun.
fn not_begun<DB: Dialect>(error: &dyn std::fmt::Display) -> TransactionError {
    let (id, label) = (error_id(), CallLabel::current());
    let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
    tracing::warn!(%error, id, tool, key_hash, attempt, backend, "no transaction could be begun");
    TransactionError::Unavailable { id }
}
