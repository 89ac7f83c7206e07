//! Backends of services, for tests that run on each of them.

#![cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]

use ::redis::aio::ConnectionManager;
use sqlx::{Postgres, Sqlite};

use super::*;
pub(super) use crate::testing::databases::new_name;
use crate::testing::databases::{self, SqliteFile};

pub(super) async fn redis() -> RedisBackend<ConnectionManager> {
    RedisBackend::new(databases::redis().await).with_prefix("mcp-patterns:test:session:")
}

pub(super) async fn postgres() -> SqlBackend<Postgres> {
    let pool = databases::postgres().await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    SqlBackend::new(pool)
}

pub(super) async fn sqlite() -> (SqlBackend<Sqlite>, SqliteFile) {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    SqlBackend::ensure_schema(&file.pool).await.expect("a table that is there is left alone");
    (SqlBackend::new(file.pool.clone()), file)
}

#[tokio::test]
async fn expired_rows_are_swept_in_batches() {
    let (backend, sqlite) = sqlite().await;
    let rows = || async {
        let rows: i64 =
            sqlx::query_scalar("select count(*) from mcp_patterns_sessions").fetch_one(&sqlite.pool).await.unwrap();
        rows
    };
    for number in 0..1203 {
        let ttl = if number < 3 { MINUTE } else { Duration::ZERO };
        let write = Write { version: 1, data: "", ttl, ends_in: Duration::MAX, opener: None };
        backend.create(&number.to_string(), write).await.unwrap();
    }
    assert_eq!(rows().await, 1203, "nothing is deleted while somebody waits for it");
    assert_eq!(backend.sweep().await.unwrap(), 1200);
    assert_eq!(rows().await, 3, "what has not expired stays");
}

/// Who sees the store learns neither who has a session nor how it is named.
#[tokio::test]
async fn a_shared_store_shows_hashes_only() {
    let (_, sqlite) = sqlite().await;
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
    let mut connection = databases::redis().await;
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
