use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;
use tokio::sync::Semaphore;

use super::dialect::Dialect;
use super::drive::Results;
use super::error::TransactionError;
use super::open::Turns;
use super::options::{Begin, Isolation, Propagation};
use super::reuse::Reuse;
use crate::ConfigError;
use crate::cancellation::Cancellation;
use crate::clock::is_too_short;
use crate::connections::{Apart, Connections, What};
use crate::retry::RetryPolicy;

/// Runs a function in a transaction: what [`TransactionalTool`](super::TransactionalTool) does with a tool call.
///
/// It is committed if the function succeeds, and rolled back if it fails, panics, takes too long, is cancelled or dropped. Where
/// the database lets another transaction go first, the function runs again in a new one.
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
    pub(super) turns: Turns,
    pub(super) reuse: Option<Arc<Reuse<DB>>>,
    pub(super) connections: Arc<Connections<DB>>,
    /// Has other transactions leave a connection to this one, which may be inside of them.
    apart: Option<Arc<Apart>>,
}

impl<DB: Dialect> Transactor<DB> {
    /// Transactions on connections of `pool`. See the [defaults](super#defaults).
    pub fn new(pool: Pool<DB>) -> Self {
        let policy = RetryPolicy::new()
            .with_max_attempts(5)
            .with_base_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_secs(1))
            .without_budget();
        let begin = Begin { timeout: Some(Duration::from_secs(30)), ..Begin::default() };
        let turns = Arc::new(Semaphore::new(1));
        let connections = Connections::of(&pool);
        let propagation = Propagation::default();
        Self { pool, begin, propagation, policy, turns, reuse: None, connections, apart: None }
            .with_timeout(Duration::from_secs(30))
    }

    /// Sets how much a transaction sees of those that run beside it. Default: the database's.
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.begin.isolation = Some(isolation);
        self
    }

    /// Refuses every write.
    pub fn read_only(mut self) -> Self {
        self.begin.read_only = true;
        self
    }

    /// Bounds each statement, 24 days at the most. PostgreSQL only.
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.begin.statement_timeout = Some(timeout);
        self
    }

    /// Bounds each wait for a lock, 24 days at the most. PostgreSQL only; SQLite's is the `busy_timeout` of its connections.
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.begin.lock_timeout = Some(timeout);
        self
    }

    /// Bounds how long PostgreSQL waits for the next statement of the transaction, 24 days at the most. PostgreSQL only.
    ///
    /// Then it rolls back and closes the connection (`idle_in_transaction_session_timeout`), so that a process that hangs, is paused or
    /// has vanished from the network does not keep its locks for longer. The call, if it is still there, is told of a timeout, and
    /// nothing was done. Default: the [timeout](Self::with_timeout), so that only a transaction whose time is over is ended so, and
    /// five minutes [without one](Self::without_timeout).
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.begin.idle_timeout = Some(timeout);
        self
    }

    /// Bounds the whole, the attempts together.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.begin.timeout = Some(timeout);
        self.policy = self.policy.with_deadline(timeout);
        self
    }

    /// Lets a transaction take as long as it takes.
    pub fn without_timeout(mut self) -> Self {
        self.begin.timeout = None;
        self.policy = self.policy.without_deadline();
        self
    }

    /// Takes a connection from the pool as it is, and on PostgreSQL hands it from one transaction, once it is committed, straight to
    /// the next, here and in clones. That spares the round trips in which sqlx tests a connection before and after it is lent: that
    /// the `BEGIN` succeeds is the test, and where it does not, a connection is taken that is tested.
    ///
    /// A `BEGIN` without an answer within a third of the pool's acquire timeout, a second at the most, fails the test, too.
    ///
    /// The pool's `before_acquire` and `after_release` hooks are not run in between: not for a pool that has some that matter, such
    /// as one that resets what a caller has set. A connection goes back to the pool when no transaction has wanted it for 5 ms, and
    /// after the commit that comes 100 ms after it was lent, so that others who use the pool have their turn. Meanwhile it is in an
    /// empty transaction, which holds no lock and sees nothing yet.
    pub fn with_connection_reuse(mut self) -> Self {
        self.reuse = Some(Reuse::new(self.pool.clone(), Arc::clone(&self.connections)));
        self
    }

    /// Sets what happens where there is a transaction already.
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        let is_nested = propagation == Propagation::RequiresNew;
        self.apart = is_nested.then(|| Arc::new(self.connections.set_apart(What::Nested)));
        self
    }

    /// Sets how often a transaction is tried that gives way to others, the first time included.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.policy = self.policy.with_max_attempts(max_attempts);
        self
    }

    /// Runs `body` in a transaction. [`current`](super::current()) gives it the connection.
    ///
    /// `body` runs once for each attempt: what it does outside the database happens as often.
    ///
    /// # Errors
    ///
    /// The error of `body`, after the rollback; or a [`TransactionError`] of the transaction itself.
    pub async fn run<T, E, B, F>(&self, cancellation: &impl Cancellation, body: B) -> Result<T, E>
    where
        B: FnMut() -> F,
        F: Future<Output = Result<T, E>>,
        E: From<TransactionError>,
    {
        struct ByResult;
        impl<T, E: From<TransactionError>> Results<Result<T, E>> for ByResult {
            fn is_success(&self, result: &Result<T, E>) -> bool {
                result.is_ok()
            }
            fn failed(&self, error: TransactionError) -> Result<T, E> {
                Err(error.into())
            }
        }
        self.drive(false, cancellation, &ByResult, body).await
    }

    /// Checks the settings. A [`TransactionalTool`](super::TransactionalTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a time that is too short for anything, or a setting that the database does not have.
    pub fn check(&self) -> Result<(), ConfigError> {
        const LAYER: &str = "TransactionalTool";
        let refuse = |setting, reason: String| Err(ConfigError::invalid(LAYER, setting, reason));
        let begin = &self.begin;
        for (setting, timeout) in [
            ("with_timeout", begin.timeout),
            ("with_statement_timeout", begin.statement_timeout),
            ("with_lock_timeout", begin.lock_timeout),
            ("with_idle_timeout", begin.idle_timeout),
        ] {
            if timeout.is_some_and(is_too_short) {
                return refuse(setting, "it must be at least a millisecond: use a longer timeout, or none".into());
            }
        }
        if let Err(unsupported) = DB::begin(begin) {
            return refuse(unsupported.0, format!("{} has none: leave it out, or use `with_timeout`", DB::NAME));
        }
        self.policy.check_as(LAYER)
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
            turns: Arc::clone(&self.turns),
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
