//! Backends of services, for tests that run on each of them.

#![cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]

use std::path::PathBuf;

use ::redis::aio::ConnectionManager;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, Postgres, Sqlite};

use super::*;

fn from_env(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// A name that no other run of a test has used: the servers outlive the tests.
pub(super) fn new_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

pub(super) async fn redis() -> RedisBackend<ConnectionManager> {
    let client = ::redis::Client::open(from_env("TEST_REDIS_URL", "redis://127.0.0.1:6379")).unwrap();
    RedisBackend::new(client.get_connection_manager().await.unwrap()).with_prefix("mcp-patterns:test:session:")
}

pub(super) async fn postgres_pool() -> PgPool {
    let url = from_env("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1/test");
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
    SqlBackend::ensure_schema(&pool).await.unwrap();
    pool
}

pub(super) async fn postgres() -> SqlBackend<Postgres> {
    SqlBackend::new(postgres_pool().await)
}

/// A database file that goes with the test.
pub(super) struct SqliteFile {
    pub(super) pool: sqlx::SqlitePool,
    path: PathBuf,
}

impl SqliteFile {
    pub(super) fn backend(&self) -> SqlBackend<Sqlite> {
        SqlBackend::new(self.pool.clone())
    }
}

pub(super) async fn sqlite() -> SqliteFile {
    let path = std::env::temp_dir().join(format!("mcp-patterns-{}.db", new_name()));
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    SqlBackend::ensure_schema(&pool).await.unwrap();
    SqlBackend::ensure_schema(&pool).await.expect("a table that is there is left alone");
    SqliteFile { pool, path }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path.display()));
        }
    }
}

#[tokio::test]
async fn expired_rows_are_swept_in_batches() {
    let sqlite = sqlite().await;
    let backend = sqlite.backend();
    let rows = || async {
        let rows: i64 =
            sqlx::query_scalar("select count(*) from mcp_patterns_sessions").fetch_one(&sqlite.pool).await.unwrap();
        rows
    };
    for number in 0..1203 {
        let ttl = if number < 3 { MINUTE } else { Duration::ZERO };
        backend.create(&number.to_string(), Write { version: 1, data: "", ttl }).await.unwrap();
    }
    assert_eq!(rows().await, 1203, "nothing is deleted while somebody waits for it");
    assert_eq!(backend.sweep().await.unwrap(), 1200);
    assert_eq!(rows().await, 3, "what has not expired stays");
}

/// Who sees the store learns neither who has a session nor how it is named.
#[tokio::test]
async fn a_shared_store_shows_hashes_only() {
    let sqlite = sqlite().await;
    let store = SessionStore::sqlite(sqlite.pool.clone());
    let ada = user("ada").with_session_id("transport-7");
    store.of(&ada).unwrap().set("k", "v").await.unwrap();
    let handle = store.open(&ada).await.unwrap().handle().unwrap().to_owned();
    let ids: Vec<String> =
        sqlx::query_scalar("select id from mcp_patterns_sessions").fetch_all(&sqlite.pool).await.unwrap();
    assert_eq!(ids.len(), 2);
    for id in ids {
        assert_eq!(id.len(), 64);
        assert!(!id.contains("ada") && !id.contains("transport-7") && !id.contains(&handle));
    }
}

#[tokio::test]
async fn a_key_of_another_kind_in_redis_is_not_taken_for_a_session() {
    use ::redis::AsyncCommands;
    let prefix = format!("mcp-patterns:test:{}:", new_name());
    let client = ::redis::Client::open(from_env("TEST_REDIS_URL", "redis://127.0.0.1:6379")).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    let store = SessionStore::new(RedisBackend::new(connection.clone()).with_prefix(&prefix));
    let session = session(&store);
    session.set("k", "v").await.unwrap();
    let key = format!("{prefix}{}", session.key.id());
    let left: i64 = connection.pttl(&key).await.unwrap();
    assert!((1..=3_600_000).contains(&left), "a session expires");

    let _: () = connection.set(&key, "rubbish").await.unwrap();
    assert!(matches!(session.get::<String>("k").await, Err(SessionError::Unavailable(_))));
    assert!(session.set("k", "w").await.is_err());
    let _: () = connection.del(&key).await.unwrap();
    let _: () = connection.hset_multiple(&key, &[("v", "1"), ("d", "rubbish")]).await.unwrap();
    let _: () = connection.pexpire(&key, 60_000).await.unwrap();
    assert!(matches!(session.get::<String>("k").await, Err(SessionError::Unavailable(_))));
    let _: () = connection.del(&key).await.unwrap();
    session.set("k", "v").await.unwrap();
    let _: () = connection.del(&key).await.unwrap();
}
