//! The databases that tests run on: the Redis at `TEST_REDIS_URL` and the PostgreSQL server at `TEST_POSTGRES_URL`, or those of
//! this machine, and files of SQLite's. The servers outlive the tests.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::ConnectionManager;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

/// A name that no other run of a test has used.
pub(crate) fn new_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn from_env(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

pub(crate) async fn redis() -> ConnectionManager {
    let client =
        redis::Client::open(from_env("TEST_REDIS_URL", "redis://127.0.0.1:6379")).expect("TEST_REDIS_URL is a URL");
    client.get_connection_manager().await.expect("tests need Redis: set TEST_REDIS_URL, or start one at 127.0.0.1:6379")
}

pub(crate) fn postgres_options() -> PgConnectOptions {
    let url = from_env("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres");
    url.parse().expect("TEST_POSTGRES_URL is a URL")
}

/// A pool that the tests share.
pub(crate) async fn postgres() -> PgPool {
    connect(postgres_options(), 4).await
}

/// A pool whose connections have a schema of their own.
pub(crate) async fn postgres_schema(options: PgConnectOptions, max_connections: u32) -> PgPool {
    let schema = format!("mcp_patterns_{}", new_name());
    let options = options.options([("search_path", schema.as_str())]).application_name(&schema);
    let pool = connect(options, max_connections).await;
    sqlx::query(AssertSqlSafe(format!("create schema {schema}"))).execute(&pool).await.expect("a schema can be made");
    pool
}

/// A pool whose connections see a server clock that a test [moves](move_clock): a function of their own schema, which
/// shadows that of the server. The clock of the process is unchanged.
pub(crate) async fn postgres_with_clock(max_connections: u32) -> PgPool {
    let pool = postgres_schema(postgres_options(), max_connections).await;
    let clock = "create table moved (by interval not null);
                 insert into moved values ('0');
                 create function clock_timestamp() returns timestamptz language sql volatile
                     as 'select pg_catalog.clock_timestamp() + by from moved'";
    sqlx::raw_sql(clock).execute(&pool).await.expect("a clock can be made");
    let schema = pool.connect_options().get_application_name().expect("the name of the schema").to_owned();
    let path = format!("{schema},pg_catalog");
    let options = postgres_options().options([("search_path", path.as_str())]).application_name(&schema);
    connect(options, max_connections).await
}

/// Moves the clock of the server by this many seconds, for [these](postgres_with_clock) connections.
pub(crate) async fn move_clock(pool: &PgPool, seconds: i64) {
    let moved = sqlx::query("update moved set by = by + make_interval(secs => $1::bigint)").bind(seconds);
    moved.execute(pool).await.expect("the clock can be moved");
}

async fn connect(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .expect("tests need PostgreSQL: set TEST_POSTGRES_URL, or start one at 127.0.0.1:5432")
}

/// A pool on a new file.
pub(crate) async fn sqlite_at(path: &PathBuf) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30));
    SqlitePoolOptions::new().max_connections(4).connect_with(options).await.expect("a file can be made")
}

/// A database file that is deleted with the test.
pub(crate) struct SqliteFile {
    pub(crate) pool: SqlitePool,
    path: PathBuf,
}

pub(crate) async fn sqlite() -> SqliteFile {
    let path = std::env::temp_dir().join(format!("mcp-patterns-{}.db", new_name()));
    SqliteFile { pool: sqlite_at(&path).await, path }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path.display()));
        }
    }
}
