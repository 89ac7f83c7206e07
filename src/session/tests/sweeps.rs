//! Expired sessions are deleted during calls, which neither lose a session nor wait.

#![cfg(all(feature = "postgres", feature = "sqlite"))]

use sqlx::Connection;
use tokio::time::timeout;

use super::*;
use crate::testing::databases;

/// Longer than a sweep, and shorter than the acquire timeout of a pool.
const LONG: Duration = Duration::from_secs(8);

fn write(data: &str, ttl: Duration) -> Write<'_> {
    Write { version: 1, data, ttl, ends_in: Duration::MAX, opener: None }
}

#[tokio::test]
async fn a_sweep_leaves_a_session_that_a_running_transaction_has_renewed_and_does_not_wait_for_it() {
    let pool = databases::postgres_schema(databases::postgres_options(), 4).await;
    SqlBackend::ensure_schema(&pool).await.unwrap();
    let backend = SqlBackend::new(pool.clone());
    for id in ["renewed", "not renewed"] {
        backend.create(id, write("old", Duration::ZERO)).await.unwrap();
    }
    let mut call = pool.begin().await.unwrap();
    let renewal =
        "update mcp_patterns_sessions set data = 'new', expires_at = 9223372036854775807 where id = 'renewed'";
    sqlx::query(renewal).execute(&mut *call).await.unwrap();
    let swept = timeout(LONG, SqlBackend::sweep(&pool)).await.expect("it waits for no transaction");
    assert_eq!(swept.unwrap(), 1);
    call.commit().await.unwrap();

    assert_eq!(SqlBackend::sweep(&pool).await.unwrap(), 0);
    assert_eq!(backend.load("renewed").await.unwrap().expect("it lives").data, "new");
}

#[tokio::test]
async fn a_sweep_of_sqlite_is_postponed_while_another_connection_writes() {
    let file = databases::sqlite().await;
    SqlBackend::ensure_schema(&file.pool).await.unwrap();
    let backend = SqlBackend::new(file.pool.clone());
    backend.create("expired", write("", Duration::ZERO)).await.unwrap();
    let mut connection = file.pool.acquire().await.unwrap();
    let writer = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let swept = timeout(LONG, SqlBackend::sweep(&file.pool)).await.expect("it waits for no writer");
    assert_eq!(swept.unwrap(), 0);
    writer.rollback().await.unwrap();
    assert_eq!(SqlBackend::sweep(&file.pool).await.unwrap(), 1);
}
