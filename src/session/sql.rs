use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;

use super::backend::{Backend, BackendError, Record, Write, Written};
use crate::ConfigError;
use crate::connections::{Apart, Connections, Pooled, What};
#[cfg(feature = "transactional")]
use crate::connections::{Spare, WaitsForItself};
use crate::sweeper::{Expired, Sweeper};
use crate::tables::Table;
#[cfg(feature = "transactional")]
use crate::transactional::{Connection, Within, within};

mod statements;
pub use statements::SessionDatabase;

/// The statements that create the table of sessions, for migrations of your own. [`SqlBackend::ensure_schema`] runs them too.
///
/// They touch no other table, and not sqlx's `_sqlx_migrations`.
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
/// The [table](SESSION_SCHEMA) must exist: see [`ensure_schema`](Self::ensure_schema). The clock of the database measures expiry: see
/// [clocks](super#clocks). Expired rows are deleted in the background, 500 at a time, once a minute while sessions are written, on
/// idle connections of the pool. The deletion waits for no call, and no call waits for more than one such batch.
///
/// Sessions and transactions may share a pool. Then transactions leave a connection to the sessions.
#[must_use]
pub struct SqlBackend<DB: SessionDatabase> {
    pool: Pool<DB>,
    sweeper: Sweeper,
    connections: Arc<Connections<DB>>,
    /// Has transactions on the pool leave a connection to the sessions. `None` where sessions are a part of transactions.
    apart: Option<Arc<Apart>>,
}

const EXPIRED: Expired =
    Expired { from: "from mcp_patterns_sessions", condition: "expires_at <= {now}", rows: "sessions" };

const TABLE: Table =
    Table { backend: "session::SqlBackend", from: EXPIRED.from, create: "session::SqlBackend::ensure_schema(&pool)" };

/// How long the start of a server waits for the check of the table.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl<DB: SessionDatabase> SqlBackend<DB> {
    /// Creates a backend on a pool. Each step is a statement outside the tool's transactions, and is kept whether these are committed
    /// or not, unless [`in_transactions`](Self::in_transactions) is called.
    pub fn new(pool: Pool<DB>) -> Self {
        let connections = Connections::of(&pool);
        let apart = Some(Arc::new(connections.set_apart(What::Statements)));
        Self { pool, sweeper: Sweeper::later(&EXPIRED), connections, apart }
    }

    /// Reads and writes sessions in the transaction of the tool, where the tool is in one on the same pool: a change is committed with
    /// the transaction, and rolled back with it.
    ///
    /// The transaction must be on a clone of the pool: a transaction on another pool does not count, even if the database is the same.
    /// Two calls that write one session wait for each other in the database, until the first has ended, for at most the
    /// [backend timeout](crate::SessionStore::with_backend_timeout).
    #[cfg(feature = "transactional")]
    #[cfg_attr(docsrs, doc(cfg(feature = "transactional")))]
    pub fn in_transactions(mut self) -> Self {
        self.apart = None;
        self
    }

    /// Creates the table, unless it exists.
    ///
    /// # Errors
    ///
    /// Those of the database, and a timeout if it does not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        <DB as SessionDatabase>::ensure_schema(pool).await
    }

    /// Deletes the expired sessions, 500 at a time, and returns how many it deleted. A session that a call has locked stays for the
    /// next time; on SQLite, all of them stay while another connection writes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sweep(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        Sweeper::new(&EXPIRED).sweep(pool).await
    }

    async fn written(&self, id: &str, written: Result<bool, BackendError>) -> Result<Written, BackendError> {
        match written? {
            true => Ok(Written::Yes),
            false => self.load(id).await.map(Written::Conflict).map_err(BackendError::after_no_change),
        }
    }

    /// Returns a connection for a statement: that of the transaction, where sessions are a part of it; a spare one, which waits for no
    /// call, where the call already has one of the pool.
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

/// The connection that a statement runs on.
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

    /// Ends the use of the connection with the result of the statement.
    fn done<T>(self, result: Result<T, sqlx::Error>) -> Result<T, BackendError> {
        let failed = |error, otherwise: fn(sqlx::Error) -> BackendError| match TABLE.missing_by(&error) {
            Some(missing) => BackendError::not_taken(missing),
            None => otherwise(error),
        };
        match self {
            #[cfg(feature = "transactional")]
            Self::Spare(connection) if result.is_ok() => connection.done(),
            #[cfg(feature = "transactional")]
            Self::Transaction(_, around) => {
                return result.map_err(|error| {
                    around.note(&error);
                    failed(error, BackendError::in_transaction)
                });
            }
            _ => {}
        }
        result.map_err(|error| failed(error, BackendError::of_sql))
    }
}

#[async_trait]
impl<DB: SessionDatabase> Backend for SqlBackend<DB> {
    fn name(&self) -> &'static str {
        DB::NAME
    }

    async fn check_storage(&self) -> Result<(), ConfigError> {
        TABLE.check(&self.connections, CHECK_TIMEOUT).await
    }

    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
        let mut on = self.connection(true).await?;
        let created = DB::create(on.connection(), id, write).await;
        let created = on.done(created);
        self.sweeper.sweep_now_and_then(&self.pool);
        self.written(id, created).await
    }

    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        let mut on = self.connection(false).await?;
        let row = DB::load(on.connection(), id).await;
        let Some((version, data, expires_in, ends_in)) = on.done(row)? else { return Ok(None) };
        let [expires_in, ends_in] = [expires_in, ends_in].map(|left| Duration::from_millis(left.max(0).unsigned_abs()));
        let version = u64::try_from(version).map_err(BackendError::new)?;
        Ok(Some(Record::new(version, data, expires_in, ends_in)))
    }

    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError> {
        let mut on = self.connection(true).await?;
        let swapped = DB::compare_and_swap(on.connection(), id, expected, write).await;
        let swapped = on.done(swapped);
        self.sweeper.sweep_now_and_then(&self.pool);
        self.written(id, swapped).await
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        let mut on = self.connection(true).await?;
        let touched = DB::touch(on.connection(), id, ttl).await;
        on.done(touched)
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError> {
        let mut on = self.connection(true).await?;
        let deleted = DB::delete(on.connection(), id, expected).await;
        on.done(deleted)
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
