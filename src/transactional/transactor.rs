use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use sqlx::Pool;
use tokio::time::{Instant, timeout_at};

use super::current::{Control, Part};
use super::dialect::{Dialect, Fault};
use super::error::TransactionError;
use super::open::{Committed, Open};
use super::options::{Begin, Isolation, Propagation};
use crate::ConfigError;
use crate::cancellation::{Cancellation, cancelled};
use crate::retry::{Judge, RetryPolicy, Verdict};
use crate::scope;

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
    pool: Pool<DB>,
    begin: Begin,
    propagation: Propagation,
    policy: RetryPolicy,
}

/// How long the end of a transaction is waited for, even if its time is over: it is worth knowing.
const END: Duration = Duration::from_secs(5);

/// Knows the results of what runs in a transaction.
pub(super) trait Results<R>: Sync {
    fn is_success(&self, result: &R) -> bool;
    fn failed(&self, error: TransactionError) -> R;
    /// Whether the last statement of a success has shown that the transaction can be committed.
    fn is_proved(&self, _: &R) -> bool {
        false
    }
    /// Tells that it took several transactions.
    fn note_attempts(&self, _: &mut R, _: u32) {}
}

/// One transaction's end: its result, or that it gave way to another.
enum Ended<R> {
    Done(R),
    Conflict(R),
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
        Self { pool, begin, propagation: Propagation::default(), policy }.with_timeout(Duration::from_secs(30))
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

    /// Bounds each statement. PostgreSQL only.
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.begin.statement_timeout = Some(timeout);
        self
    }

    /// Bounds each wait for a lock. PostgreSQL only; SQLite's is the `busy_timeout` of its connections.
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.begin.lock_timeout = Some(timeout);
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

    /// Sets what happens where there is a transaction already.
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
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
                let deadline = begin.timeout.map(|timeout| Instant::now() + timeout);
                let judge = ByEnd(results);
                let driven = self
                    .policy
                    .drive(cancellation, &judge, |_| self.attempt(begin, deadline, cancellation, results, body()))
                    .await;
                match driven.result {
                    Ended::Done(mut result) => {
                        if driven.attempts > 1 {
                            results.note_attempts(&mut result, driven.attempts);
                        }
                        result
                    }
                    Ended::Conflict(_) if driven.exhausted.is_some() => {
                        results.failed(TransactionError::Conflict { attempts: driven.attempts })
                    }
                    Ended::Conflict(result) => result,
                }
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
        let timed_out = || TransactionError::TimedOut { after: begin.timeout.unwrap_or_default() };
        let open = match until(deadline, Open::begin(self.pool.clone(), begin)).await {
            Some(Ok(open)) => open,
            Some(Err(Fault::Conflict)) => return Ended::Conflict(results.failed(TransactionError::Unavailable)),
            Some(Err(_)) => return Ended::Done(results.failed(TransactionError::Unavailable)),
            None => return Ended::Done(results.failed(timed_out())),
        };
        let part = Arc::new(Part::new(open));
        let control = Arc::clone(&part.control);
        let body = AssertUnwindSafe(scope::enter(Arc::clone(&part), scope::enter(Arc::clone(&control), body)));
        let gone = pin!(cancelled(cancellation));
        let result = match until(deadline, select(pin!(body.catch_unwind()), gone)).await {
            // A transaction that is dropped is rolled back behind the scenes: a statement that runs is not waited for.
            None => return Ended::Done(results.failed(timed_out())),
            Some(Either::Right(((), _))) => return Ended::Done(results.failed(TransactionError::Cancelled)),
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
        result: R,
    ) -> Ended<R> {
        let control = &part.control;
        let success = results.is_success(&result);
        let Some(open) = part.take() else {
            return Ended::Done(if success { results.failed(TransactionError::Leaked) } else { result });
        };
        let end = deadline.map(|deadline| deadline.max(Instant::now() + END)).unwrap_or_else(|| Instant::now() + END);
        if !success || control.is_doomed() || control.is_rollback_only() || cancellation.is_cancelled() {
            // The locks are let go before the caller hears of the failure, if that does not take long.
            let _ = timeout_at(end, open.rollback()).await;
            return match () {
                () if control.has_conflict() => Ended::Conflict(result),
                () if !success => Ended::Done(result),
                () if control.is_doomed() => Ended::Done(results.failed(TransactionError::RolledBack)),
                () if control.is_rollback_only() => Ended::Done(result),
                () => Ended::Done(results.failed(TransactionError::Cancelled)),
            };
        }
        match timeout_at(end, open.commit(results.is_proved(&result), control.take_hooks())).await {
            Ok(Committed::Yes(hooks)) => {
                // They go on if they take longer; the answer does not wait for ever.
                if let Some(hooks) = hooks {
                    let _ = timeout_at(Instant::now() + END, hooks).await;
                }
                Ended::Done(result)
            }
            Ok(Committed::No(Fault::Conflict)) => Ended::Conflict(result),
            Ok(Committed::No(Fault::Unavailable)) => Ended::Done(results.failed(TransactionError::Unavailable)),
            Ok(Committed::No(_)) => Ended::Done(results.failed(TransactionError::RolledBack)),
            Ok(Committed::Unknown) | Err(_) => Ended::Done(results.failed(TransactionError::Unknown)),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.begin.read_only
    }

    pub(super) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const LAYER: &str = "TransactionalTool";
        let refuse = |setting, reason: String| Err(ConfigError::invalid(LAYER, setting, reason));
        let begin = &self.begin;
        for (setting, timeout) in [
            ("with_timeout", begin.timeout),
            ("with_statement_timeout", begin.statement_timeout),
            ("with_lock_timeout", begin.lock_timeout),
        ] {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return refuse(setting, "nothing is done in no time: use a longer timeout, or none".into());
            }
        }
        if let Err(unsupported) = DB::begin(begin) {
            return refuse(unsupported.0, format!("{} has none: leave it out, or use `with_timeout`", DB::NAME));
        }
        self.policy.check()
    }
}

/// Waits no longer than until `deadline`.
async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Runs a part of a transaction whose failure is the failure of the whole, also if it panics or is dropped.
async fn join<R>(outer: &Control, results: &impl Results<R>, body: impl Future<Output = R>) -> R {
    let unfinished = Doom(Some(outer));
    let result = body.await;
    if results.is_success(&result) {
        unfinished.spare();
    }
    result
}

/// Runs a part of a transaction whose failure undoes the part only.
async fn savepoint<DB: Dialect, R>(outer: &Part<DB>, results: &impl Results<R>, body: impl Future<Output = R>) -> R {
    // From here on until the savepoint is released or undone, the whole cannot be committed.
    let unfinished = Doom(Some(&outer.control));
    let begun = async {
        let mut connection = outer.connection().await?;
        DB::execute(&mut connection, "SAVEPOINT mcp_patterns").await?;
        Ok(())
    };
    if let Err(error) = begun.await {
        return results.failed(error);
    }
    let nested = Arc::new(outer.nested());
    let control = Arc::clone(&nested.control);
    let result = scope::enter(nested, scope::enter(Arc::clone(&control), body)).await;
    let keep = results.is_success(&result) && !control.is_doomed() && !control.is_rollback_only();
    let ended = async {
        let mut connection = outer.connection().await?;
        if !keep {
            DB::execute(&mut connection, "ROLLBACK TO SAVEPOINT mcp_patterns").await?;
        }
        DB::execute(&mut connection, "RELEASE SAVEPOINT mcp_patterns").await?;
        Ok(())
    };
    if let Err(error) = ended.await {
        return results.failed(error);
    }
    unfinished.spare();
    if control.has_conflict() {
        outer.control.note_conflict();
    }
    if keep {
        outer.control.adopt(&control);
    }
    if !keep && results.is_success(&result) && control.is_doomed() {
        return results.failed(TransactionError::RolledBack);
    }
    result
}

/// Keeps a transaction from being committed if a part of it does not come to its end.
struct Doom<'a>(Option<&'a Control>);

impl Doom<'_> {
    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Doom<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.0 {
            control.doom();
        }
    }
}

/// Judges the ends of transactions for the policy that tries them again.
struct ByEnd<'a, S>(&'a S);

impl<R, S: Results<R>> Judge<Ended<R>> for ByEnd<'_, S> {
    fn verdict(&self, ended: &Ended<R>) -> Option<Verdict> {
        match ended {
            Ended::Done(_) => None,
            Ended::Conflict(_) => Some(Verdict::Temporary { retry_after: None, throttled: false }),
        }
    }

    fn timed_out(&self, after: Duration) -> Ended<R> {
        Ended::Done(self.0.failed(TransactionError::TimedOut { after }))
    }

    fn will_retry(&self, attempt: u32, _: &Ended<R>, delay: Duration) {
        tracing::debug!(attempt, ?delay, "transaction gave way to another, beginning a new one");
    }
}

impl<DB: Dialect> From<Pool<DB>> for Transactor<DB> {
    fn from(pool: Pool<DB>) -> Self {
        Self::new(pool)
    }
}

impl<DB: Dialect> Clone for Transactor<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), begin: self.begin, propagation: self.propagation, policy: self.policy.clone() }
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
