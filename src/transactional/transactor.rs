use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;
use tokio::sync::Semaphore;

use super::dialect::Dialect;
use super::open::WriteQueue;
use super::options::{Begin, Isolation, Propagation, Unsupported};
use super::reuse::Reuse;
use crate::ConfigError;
use crate::connections::{Apart, Connections, What};
use crate::retry::RetryPolicy;

/// Runs a function in a transaction, as [`TransactionalTool`](super::TransactionalTool) does with a tool call.
///
/// The transaction is committed if the function succeeds, and rolled back if it fails, panics, takes too long, is cancelled or dropped. If
/// the transaction conflicts with another one, the function runs again in a new transaction.
///
/// # Example
///
/// ```
/// use mcp_patterns::transactional::{Transactor, TransactionError, current};
/// use sqlx::Sqlite;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
/// sqlx::query("create table t (n integer)").execute(&pool).await?;
/// let transactor = Transactor::new(pool.clone());
///
/// let inserted = transactor.run(&(), || async {
///     let mut db = current::<Sqlite>().await?;
///     sqlx::query("insert into t values (1)").execute(&mut *db).await?;
///     Err::<(), _>(TransactionError::Cancelled) // a failure undoes it
/// }).await;
/// assert_eq!(inserted, Err(TransactionError::Cancelled));
///
/// let rows: i64 = sqlx::query_scalar("select count(*) from t").fetch_one(&pool).await?;
/// assert_eq!(rows, 0);
/// # Ok::<(), sqlx::Error>(()) }).unwrap();
/// ```
#[must_use]
pub struct Transactor<DB: Dialect> {
    pub(super) pool: Pool<DB>,
    pub(super) begin: Begin,
    pub(super) propagation: Propagation,
    pub(super) policy: RetryPolicy,
    pub(super) write_queue: WriteQueue,
    pub(super) reuse: Option<Arc<Reuse<DB>>>,
    pub(super) connections: Arc<Connections<DB>>,
    /// Makes other transactions leave a connection for those of this transactor, which may be inside them.
    apart: Option<Arc<Apart>>,
}

impl<DB: Dialect> Transactor<DB> {
    /// Creates a transactor on a pool. See the [defaults](super#defaults).
    pub fn new(pool: Pool<DB>) -> Self {
        let policy = RetryPolicy::new()
            .with_max_attempts(5)
            .with_base_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_secs(1))
            .without_budget();
        let begin = Begin { timeout: Some(Duration::from_secs(30)), ..Begin::default() };
        let write_queue = Arc::new(Semaphore::new(1));
        let connections = Connections::of(&pool);
        let propagation = Propagation::default();
        Self { pool, begin, propagation, policy, write_queue, reuse: None, connections, apart: None }
            .with_timeout(Duration::from_secs(30))
    }

    /// Sets how much a transaction sees of concurrent transactions. Default: the database's.
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.begin.isolation = Some(isolation);
        self
    }

    /// Makes the database refuse every write in the transactions.
    pub fn read_only(mut self) -> Self {
        self.begin.read_only = true;
        self
    }

    /// Bounds each statement. At least 1 ms and at most 24 days. PostgreSQL only. Default: none.
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.begin.statement_timeout = Some(timeout);
        self
    }

    /// Bounds each wait for a lock. At least 1 ms and at most 24 days. PostgreSQL only; on SQLite, set the `busy_timeout` of the connections.
    /// Default: none.
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.begin.lock_timeout = Some(timeout);
        self
    }

    /// Bounds how long PostgreSQL waits for the next statement of the transaction. At least 1 ms and at most 24 days. PostgreSQL only.
    ///
    /// Then PostgreSQL rolls back and closes the connection (`idle_in_transaction_session_timeout`), so that a process that hangs, is paused
    /// or has vanished from the network keeps its locks no longer. If the call still runs, it fails with a timeout, and nothing was done.
    /// Default: the [timeout](Self::with_timeout), so that this ends only a transaction past its timeout, and five minutes
    /// [without one](Self::without_timeout).
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.begin.idle_timeout = Some(timeout);
        self
    }

    /// Bounds all attempts together. At least 1 ms. Default: 30 seconds.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.begin.timeout = Some(timeout);
        self.policy = self.policy.with_deadline(timeout);
        self
    }

    /// Removes the bound on the time of a transaction.
    pub fn without_timeout(mut self) -> Self {
        self.begin.timeout = None;
        self.policy = self.policy.without_deadline();
        self
    }

    /// Takes a connection from the pool untested. On PostgreSQL, it also passes a connection from a committed transaction directly to the
    /// next one, of this transactor or a clone. That saves the round trips in which sqlx tests a connection before it is lent and after it is
    /// returned. The `BEGIN` is the test instead: if it fails, a tested connection takes its place.
    ///
    /// A `BEGIN` without an answer within a third of the pool's acquire timeout, a second at most, fails the test, too.
    ///
    /// The pool's `before_acquire` and `after_release` hooks do not run in between. Do not use this if they matter, for example because one
    /// resets the settings of a caller. A connection returns to the pool if no transaction takes it for 5 ms, and after the first commit that
    /// comes 100 ms after it was lent, so that others can use the pool. Meanwhile it is in an empty transaction, which holds no lock and sees
    /// nothing yet.
    pub fn with_connection_reuse(mut self) -> Self {
        self.reuse = Some(Reuse::new(self.pool.clone(), Arc::clone(&self.connections)));
        self
    }

    /// Sets how a transaction relates to one that the call is already in. Default: [`Propagation::Required`].
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        let is_nested = propagation == Propagation::RequiresNew;
        self.apart = is_nested.then(|| Arc::new(self.connections.set_apart(What::Nested)));
        self
    }

    /// Bounds how many transactions a call begins if they conflict with others, the first one included. It must be greater than zero.
    /// Default: 5.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.policy = self.policy.with_max_attempts(max_attempts);
        self
    }

    /// Checks the settings. A [`TransactionalTool`](super::TransactionalTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a timeout below a millisecond, and for a setting that the database does not support.
    pub fn check(&self) -> Result<(), ConfigError> {
        const ENGINE: &str = "Transactor";
        let begin = &self.begin;
        for (setting, timeout) in [
            ("with_timeout", begin.timeout),
            ("with_statement_timeout", begin.statement_timeout),
            ("with_lock_timeout", begin.lock_timeout),
            ("with_idle_timeout", begin.idle_timeout),
        ] {
            if let Some(timeout) = timeout {
                ConfigError::check_timeout(ENGINE, setting, timeout)?;
            }
        }
        if let Err(Unsupported(setting)) = DB::begin(begin) {
            let reason = format!("{} does not support it: remove this setting, or use `with_timeout`", DB::NAME);
            return Err(ConfigError::invalid(ENGINE, setting, reason));
        }
        self.policy.check_as(ENGINE)
    }
}

impl<DB: Dialect> From<Pool<DB>> for Transactor<DB> {
    fn from(pool: Pool<DB>) -> Self {
        Self::new(pool)
    }
}

impl<DB: Dialect> Clone for Transactor<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            begin: self.begin,
            propagation: self.propagation,
            policy: self.policy.clone(),
            write_queue: Arc::clone(&self.write_queue),
            reuse: self.reuse.clone(),
            connections: Arc::clone(&self.connections),
            apart: self.apart.clone(),
        }
    }
}

impl<DB: Dialect> fmt::Debug for Transactor<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactor")
            .field("database", &DB::NAME)
            .field("begin", &self.begin)
            .field("propagation", &self.propagation)
            .finish_non_exhaustive()
    }
}
