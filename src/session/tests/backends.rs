//! Backends of services, for tests that run on each of them.

#![cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]

use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, Sqlite};

use super::*;
use crate::connections::Connections;
pub(super) use crate::testing::databases::new_name;
use crate::testing::databases::{self, SqliteFile};
use crate::testing::proxy::Proxy;

pub(super) async fn redis() -> RedisBackend {
    RedisBackend::new(AnyRedisConnection::from_redis_1(databases::redis().await))
        .with_prefix("mcp-patterns:test:session:")
}

pub(super) async fn postgres() -> SqlBackend<Postgres> {
    let pool = databases::postgres().await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    SqlBackend::new(pool)
}

pub(super) async fn sqlite() -> (SqlBackend<Sqlite>, SqliteFile) {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    SqlBackend::ensure_schema(&file.pool).await.expect("an existing table is unchanged");
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
    assert_eq!(rows().await, 1203, "nothing is deleted while a caller waits for it");
    assert_eq!(SqlBackend::sweep(&sqlite.pool).await.unwrap(), 1200);
    assert_eq!(rows().await, 3, "what has not expired stays");
}

/// A reader of the store learns neither the owner of a session nor its name.
#[tokio::test]
async fn a_shared_store_contains_only_hashes() {
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
    let store =
        SessionStore::new(RedisBackend::new(AnyRedisConnection::from_redis_1(connection.clone())).with_prefix(&prefix));
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

#[tokio::test]
async fn sessions_work_when_postgres_stops_answering_on_the_existing_connections() {
    let direct = databases::postgres_schema(databases::postgres_options(), 1).await;
    SqlBackend::ensure_schema(&direct).await.unwrap();
    let (network, through) = Proxy::to_postgres(&direct.connect_options()).await;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(through).await.unwrap();
    let store = SessionStore::postgres(pool.clone()).with_backend_timeout(MINUTE);
    let session = store.of(&user("ada").with_session_id("1")).unwrap();
    session.set("n", &0).await.unwrap();
    for n in 1..=3 {
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        network.silence();
        session.set("n", &n).await.expect("another connection is available in time");
        assert_eq!(session.get::<i32>("n").await.unwrap(), Some(n));
    }
    // A connection that a step left in the middle of a statement is closed, too.
    let statement = tokio::time::timeout(Duration::from_millis(50), async {
        let mut hung = Connections::of(&pool).acquire().await.unwrap();
        network.silence();
        sqlx::query("select 1").execute(&mut *hung).await
    });
    assert!(statement.await.is_err(), "no answer comes");
    let connections = Connections::of(&pool);
    let both = async { (connections.acquire().await, connections.acquire().await) };
    let both = tokio::time::timeout(MINUTE, both).await.unwrap();
    assert!(both.0.is_ok() && both.1.is_ok(), "no connection is lost");
}
