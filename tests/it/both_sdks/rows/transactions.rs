//! Calls in a transaction. The clock is the real one: a database is waited for.

use mcp_patterns::TransactionalTool;
use mcp_patterns::idempotency_keys::{IDEMPOTENCY, Idempotency};
use serde_json::json;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, mark, text};

async fn database() -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("a database");
    sqlx::query("create table bookings (number integer not null)").execute(&pool).await.expect("a table");
    TransactionalTool::ensure_schema(&pool).await.expect("a table of keys");
    pool
}

fn keyed(pool: SqlitePool) -> TransactionalTool<Sqlite> {
    TransactionalTool::new(pool).only(["book"]).with_idempotency(Idempotency::new())
}

in_both_columns! {
    #[tokio::test]
    async fn a_success_is_committed_and_a_failure_is_rolled_back_in_either_form() {
        let pool = database().await;
        let script = Script::with(Some(pool.clone()));
        let client = serve(&script, TransactionalTool::new(pool).only(["book"])).client("ada").await;
        for how in ["ok", "fail", "error", "ok"] {
            let _ = client.call("book", json!({"how": how})).await;
        }
        assert_eq!(script.bookings().await, [1, 4]);
    }

    #[tokio::test]
    async fn a_key_is_committed_with_its_call() {
        let pool = database().await;
        let script = Script::with(Some(pool.clone()));
        let client = serve(&script, keyed(pool)).client("ada").await;
        for (how, key) in [("fail", "k"), ("fail", "k"), ("ok", "l"), ("ok", "l")] {
            let _ = client.call("book", json!({"how": how, "idempotency_key": key})).await;
        }
        let again = client.call("book", json!({"how": "ok", "idempotency_key": "l"})).await;
        assert_eq!((text(&again), mark(&again, IDEMPOTENCY)), ("booked: 3".into(), json!("replayed")));
        assert_eq!(script.bookings().await, [3]);
    }
}
