//! Real databases: a SQLite file, and a separate schema on the PostgreSQL server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Pool, Postgres, Sqlite};
use tokio::time::timeout;

use crate::testing::databases::{postgres_options, postgres_schema, sqlite_at};
use crate::transactional::{Dialect, Fault, TransactionError, current};

/// A database with a table `t (n integer)`.
pub(super) trait TestDb: Dialect {
    fn pool() -> impl Future<Output = Pool<Self>> + Send;
    fn numbers(pool: &Pool<Self>) -> impl Future<Output = Vec<i64>> + Send;
    fn records(pool: &Pool<Self>) -> impl Future<Output = i64> + Send;
    fn write(connection: &mut Self::Connection, n: i64) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Sends no statement in its transaction.
pub(super) async fn nothing() -> Result<(), TransactionError> {
    Ok(())
}

/// Writes a number in the transaction of the call.
pub(super) async fn write<DB: TestDb>(n: i64) -> Result<(), TransactionError> {
    let mut connection = current::<DB>().await?;
    Ok(DB::write(&mut connection, n).await?)
}

/// Reads the numbers once no transaction of a caller who left is open any more.
pub(super) async fn numbers_at_rest<DB: TestDb>(pool: &Pool<DB>) -> Vec<i64> {
    let mut all = Vec::new();
    // Every connection is back in the pool, so every transaction has ended.
    for _ in 0..pool.options().get_max_connections() {
        all.push(pool.acquire().await.expect("no connection is lost"));
    }
    for connection in &mut all {
        DB::execute(connection, "create temporary table if not exists probe (n integer)".into())
            .await
            .expect("no transaction is read-only or aborted");
    }
    drop(all);
    DB::numbers(pool).await
}

/// Longer than any awaited step, and shorter than the acquire timeout of a pool.
pub(super) const LONG: Duration = Duration::from_secs(8);

/// Waits until every connection is back in its pool.
pub(super) async fn until_idle<DB: TestDb>(pool: &Pool<DB>) {
    let is_back = timeout(LONG, async {
        while pool.num_idle() < pool.size() as usize {
            tokio::task::yield_now().await;
        }
    });
    is_back.await.expect("they come back");
}

/// How often the hooks of a pool have run.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    before_acquire: AtomicU32,
    after_release: AtomicU32,
}

impl Hooks {
    pub(super) fn before_acquire(&self) -> u32 {
        self.before_acquire.load(Ordering::SeqCst)
    }

    pub(super) fn after_release(&self) -> u32 {
        self.after_release.load(Ordering::SeqCst)
    }
}

/// A pool with that many connections to the database of another pool, with hooks.
pub(super) async fn hooked_pool<DB: TestDb>(other: &Pool<DB>, max_connections: u32) -> (Pool<DB>, Arc<Hooks>) {
    let hooks = Arc::new(Hooks::default());
    let (acquired, released) = (Arc::clone(&hooks), Arc::clone(&hooks));
    let pool = PoolOptions::<DB>::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .before_acquire(move |_, _| {
            acquired.before_acquire.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        })
        .after_release(move |_, _| {
            released.after_release.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        })
        .connect_with(other.connect_options().as_ref().clone());
    (pool.await.expect("a connection"), hooks)
}

/// A pool on a separate schema.
pub(super) async fn postgres_pool(options: PgConnectOptions, max_connections: u32) -> Pool<Postgres> {
    let pool = postgres_schema(options, max_connections).await;
    sqlx::query("create table t (n bigint)").execute(&pool).await.expect("a table can be made");
    pool
}

impl TestDb for Postgres {
    async fn pool() -> Pool<Self> {
        postgres_pool(postgres_options(), 4).await
    }

    async fn numbers(pool: &Pool<Self>) -> Vec<i64> {
        sqlx::query_scalar("select n from t order by n").fetch_all(pool).await.expect("numbers can be read")
    }

    async fn records(pool: &Pool<Self>) -> i64 {
        let count = sqlx::query_scalar("select count(*) from mcp_patterns_idempotency").fetch_one(pool);
        count.await.expect("records can be counted")
    }

    async fn write(connection: &mut Self::Connection, n: i64) -> Result<(), sqlx::Error> {
        sqlx::query("insert into t values ($1)").bind(n).execute(connection).await.map(|_| ())
    }
}

thread_local! {
    static FILES: Files = Files(tempdir());
}

/// A folder for the files of one test, which has its own thread. It is deleted with the thread.
struct Files(PathBuf);

fn tempdir() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mcp-patterns-{:016x}", fastrand::u64(..)));
    std::fs::create_dir(&folder).expect("a folder can be made");
    folder
}

impl Files {
    fn next(&self) -> PathBuf {
        self.0.join(format!("{:016x}.db", fastrand::u64(..)))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl TestDb for Sqlite {
    async fn pool() -> Pool<Self> {
        let pool = sqlite_at(&FILES.with(Files::next)).await;
        sqlx::query("create table t (n integer)").execute(&pool).await.expect("a table can be made");
        pool
    }

    async fn numbers(pool: &Pool<Self>) -> Vec<i64> {
        sqlx::query_scalar("select n from t order by n").fetch_all(pool).await.expect("numbers can be read")
    }

    async fn records(pool: &Pool<Self>) -> i64 {
        let count = sqlx::query_scalar("select count(*) from mcp_patterns_idempotency").fetch_one(pool);
        count.await.expect("records can be counted")
    }

    async fn write(connection: &mut Self::Connection, n: i64) -> Result<(), sqlx::Error> {
        sqlx::query("insert into t values ($1)").bind(n).execute(connection).await.map(|_| ())
    }
}

/// The content of a table if nothing was done.
pub(super) const NONE: [i64; 0] = [];

/// The tool's own error.
pub(super) fn refusal() -> TransactionError {
    TransactionError::Statement { fault: Fault::Permanent, id: "the tool's own".into() }
}
