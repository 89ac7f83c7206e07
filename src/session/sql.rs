use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;

use super::backend::{Backend, BackendError, BackendFuture, Record, Write, Written};
use crate::connections::{Apart, Connections, Pooled, What};
#[cfg(feature = "transactional")]
use crate::connections::{Spare, WaitsForItself};
use crate::sweeper::{Expired, Sweeper};
#[cfg(feature = "transactional")]
use crate::transactional::{Connection, Within, within};

mod statements;
pub use statements::SessionDatabase;

/// The table of sessions, for those who run their own migrations. `ensure_schema` runs it too.
///
/// It stands alone: neither sqlx's `_sqlx_migrations` nor any other table is touched.
pub const SESSION_SCHEMA: &str = "\
create table if not exists mcp_patterns_sessions (
    id text primary key,
    version bigint not null,
    data text not null,
    expires_at bigint not null,
    ends_at bigint not null
);
create index if not exists mcp_patterns_sessions_expires_at on mcp_patterns_sessions (expires_at);
";

/// Keeps sessions in a table of a database, for all replicas.
///
/// The [table](SESSION_SCHEMA) must be there: see [`ensure_schema`](Self::ensure_schema). Expiry is measured by the clock of the
/// database: see [clocks](super#clocks). Expired rows are deleted behind the scenes, 500 at a time, once a minute while sessions are written, on connections of the
/// pool that are idle. That waits for no call, and no call waits for more than such a batch.
///
/// The pool may be that of the transactions, which then leave a connection to the sessions.
#[must_use]
pub struct SqlBackend<DB: SessionDatabase> {
    pool: Pool<DB>,
    sweeper: Sweeper,
    connections: Arc<Connections<DB>>,
    /// Has transactions on the pool leave a connection to the sessions, unless these are a part of them.
    apart: Option<Arc<Apart>>,
}

const EXPIRED: Expired =
    Expired { from: "from mcp_patterns_sessions", condition: "expires_at <= {now}", rows: "sessions" };

impl<DB: SessionDatabase> SqlBackend<DB> {
    /// On connections of `pool`. Each step is a statement outside any transaction of the tool's, and is kept whatever becomes of that,
    /// unless [asked otherwise](Self::in_transactions).
    pub fn new(pool: Pool<DB>) -> Self {
        let connections = Connections::of(&pool);
        let apart = Some(Arc::new(connections.set_apart(What::Statements)));
        Self { pool, sweeper: Sweeper::later(&EXPIRED), connections, apart }
    }

    /// Reads and writes sessions in the transaction of the tool, where it is in one on the same pool: what is written is committed with
    /// it, and rolled back with it.
    ///
    /// The transaction must be on a clone of the pool: one on another pool is another matter, even if the database is the same. Two
    /// calls that write one session wait for each other in the database, until the first has ended: for the [time of a
    /// step](crate::SessionStore::with_backend_timeout) at most.
    #[cfg(feature = "transactional")]
    #[cfg_attr(docsrs, doc(cfg(feature = "transactional")))]
    pub fn in_transactions(mut self) -> Self {
        self.apart = None;
        self
    }

    /// Makes the table where there is none.
    ///
    /// # Errors
    ///
    /// Those of the database, and that it did not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        <DB as SessionDatabase>::ensure_schema(pool).await
    }

    /// Deletes the expired sessions, a batch at a time, and returns how many there were. Those that a call holds stay for the next
    /// time; on SQLite that is all of them, while somebody writes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sweep(&self) -> Result<u64, sqlx::Error> {
        self.sweeper.sweep(&self.pool).await
    }

    async fn written(&self, id: &str, written: Result<bool, BackendError>) -> Result<Written, BackendError> {
        match written? {
            true => Ok(Written::Yes),
            false => self.load(id).await.map(Written::No).map_err(BackendError::after_no_change),
        }
    }

    /// A connection for a statement: that of the transaction, where sessions are a part of it; one that waits for no call, where the
    /// call has one of the pool already.
    #[cfg_attr(
        not(feature = "transactional"),
        expect(unused_variables, reason = "there is no transaction to wait for")
    )]
    async fn connection(&self, writes: bool) -> Result<On<'_, DB>, BackendError> {
        #[cfg(feature = "transactional")]
        if let Some(around) = within(&self.pool) {
            if self.apart.is_none() {
                let connection = around.connection().await.map_err(BackendError::in_transaction)?;
                return Ok(On::Transaction(connection, around));
            }
            if around.bars(writes) {
                return Err(BackendError::not_taken(WaitsForItself));
            }
            return Ok(On::Spare(self.connections.spare().await.map_err(BackendError::not_taken)?));
        }
        Ok(On::Pool(self.connections.acquire().await.map_err(BackendError::not_taken)?))
    }
}

/// Where a statement runs.
enum On<'a, DB: SessionDatabase> {
    Pool(Pooled<DB>),
    #[cfg(feature = "transactional")]
    Spare(Spare<'a, DB>),
    #[cfg(feature = "transactional")]
    Transaction(Connection<DB>, Within<DB>),
    #[cfg(not(feature = "transactional"))]
    #[expect(dead_code, reason = "it borrows where there are transactions")]
    Never(std::convert::Infallible, std::marker::PhantomData<&'a ()>),
}

impl<DB: SessionDatabase> On<'_, DB> {
    fn connection(&mut self) -> &mut DB::Connection {
        match self {
            Self::Pool(connection) => connection,
            #[cfg(feature = "transactional")]
            Self::Spare(connection) => connection,
            #[cfg(feature = "transactional")]
            Self::Transaction(connection, _) => connection,
            #[cfg(not(feature = "transactional"))]
            Self::Never(never, _) => match *never {},
        }
    }

    /// Ends the use of the connection with what the statement came to.
    fn done<T>(self, result: Result<T, sqlx::Error>) -> Result<T, BackendError> {
        match self {
            #[cfg(feature = "transactional")]
            Self::Spare(connection) if result.is_ok() => connection.done(),
            #[cfg(feature = "transactional")]
            Self::Transaction(_, around) => {
                return result.map_err(|error| {
                    around.note(&error);
                    BackendError::in_transaction(error)
                });
            }
            _ => {}
        }
        result.map_err(BackendError::of_sql)
    }
}

impl<DB: SessionDatabase> Backend for SqlBackend<DB> {
    fn name(&self) -> &'static str {
        DB::NAME
    }

    fn create<'a>(&'a self, id: &'a str, write: Write<'a>) -> BackendFuture<'a, Written> {
        Box::pin(async move {
            let mut on = self.connection(true).await?;
            let created = DB::create(on.connection(), id, write).await;
            let created = on.done(created);
            self.sweeper.sweep_now_and_then(&self.pool);
            self.written(id, created).await
        })
    }

    fn load<'a>(&'a self, id: &'a str) -> BackendFuture<'a, Option<Record>> {
        Box::pin(async move {
            let mut on = self.connection(false).await?;
            let row = DB::load(on.connection(), id).await;
            let Some((version, data, expires_in, ends_in)) = on.done(row)? else { return Ok(None) };
            let [expires_in, ends_in] =
                [expires_in, ends_in].map(|left| Duration::from_millis(left.max(0).unsigned_abs()));
            let version = u64::try_from(version).map_err(BackendError::new)?;
            Ok(Some(Record { version, data, expires_in, ends_in }))
        })
    }

    fn compare_and_swap<'a>(&'a self, id: &'a str, expected: u64, write: Write<'a>) -> BackendFuture<'a, Written> {
        Box::pin(async move {
            let mut on = self.connection(true).await?;
            let swapped = DB::compare_and_swap(on.connection(), id, expected, write).await;
            let swapped = on.done(swapped);
            self.sweeper.sweep_now_and_then(&self.pool);
            self.written(id, swapped).await
        })
    }

    fn touch<'a>(&'a self, id: &'a str, ttl: Duration) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut on = self.connection(true).await?;
            let touched = DB::touch(on.connection(), id, ttl).await;
            on.done(touched)
        })
    }

    fn delete<'a>(&'a self, id: &'a str, expected: Option<u64>) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut on = self.connection(true).await?;
            let deleted = DB::delete(on.connection(), id, expected).await;
            on.done(deleted)
        })
    }
}

impl<DB: SessionDatabase> Clone for SqlBackend<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            sweeper: self.sweeper.clone(),
            connections: Arc::clone(&self.connections),
            apart: self.apart.clone(),
        }
    }
}

impl<DB: SessionDatabase> fmt::Debug for SqlBackend<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlBackend").field("database", &DB::NAME).finish_non_exhaustive()
    }
}
