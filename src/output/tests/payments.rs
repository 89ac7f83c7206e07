//! A payment whose answer is huge, in a transaction with a key: it reads as committed.

use sqlx::Sqlite;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::*;
use crate::idempotency_keys::Idempotency;
use crate::transactional::{self, current};
use crate::{CachedTool, RetryTool, TransactionalTool};

async fn database() -> sqlx::SqlitePool {
    let options = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = options.connect_with(SqliteConnectOptions::new().in_memory(true)).await.expect("a database");
    sqlx::query("create table payments (cents integer)").execute(&pool).await.expect("a table");
    TransactionalTool::ensure_schema(&pool).await.expect("a table of keys");
    pool
}

/// Pays, and answers with the whole journal.
fn bank() -> ScriptedServer {
    ScriptedServer::new("bank").with_plain("pay", |call| async move {
        let mut db = current::<Sqlite>().await?;
        let pay = sqlx::query("insert into payments values ($1)").bind(call.args["cents"].as_i64());
        pay.execute(&mut *db).await.map_err(transactional::failed)?;
        Ok(ToolResult::text(lines(5_000)))
    })
}

#[tokio::test]
async fn a_committed_payment_with_a_huge_answer_reads_as_committed_and_so_does_its_replay() {
    let pool = database().await;
    let pays = || TransactionalTool::new(pool.clone()).only(["pay"]).with_idempotency(Idempotency::new());
    let script = bank();
    let server = (keeping(), CachedTool::new(), RetryTool::new(), pays()).layer(script.clone());
    let pay = |key: &str| {
        let args = json!({ "cents": 500, "idempotency_key": key });
        let server = server.clone();
        async move { server.call_tool("pay", args, &user("ada")).await }
    };
    let (first, replay) = (pay("a").await, pay("a").await);
    for answer in [&first, &replay] {
        assert!(outcome::failure(answer).is_none(), "{answer:?}");
    }
    let (first, replay) = (first.expect("a success"), replay.expect("a success"));
    assert_eq!(first.content, replay.content, "the same beginning, sentence and link");
    assert_eq!(replay.meta.as_ref().unwrap()["mcp-patterns/idempotency"], "replayed");
    for answer in [&first, &replay] {
        assert_eq!(status(answer), "spilled");
        assert!(text(&answer.content[1]).contains("The call has succeeded: do not repeat it"), "{answer:?}");
        assert_eq!(whole(&server, answer, &user("ada")).await, Some(vec![lines(5_000)]));
    }
    let paid: Vec<i64> = sqlx::query_scalar("select cents from payments").fetch_all(&pool).await.expect("rows");
    assert_eq!((paid, script.calls("pay")), (vec![500], 1));

    // Without a place for the answer, it is passed whole, and is a success too.
    let server = (bound(), pays()).layer(script);
    let answer = server.call_tool("pay", json!({ "cents": 700, "idempotency_key": "b" }), &user("ada")).await;
    assert!(outcome::failure(&answer).is_none());
    assert_eq!(text(&answer.expect("a success").content[0]), lines(5_000));
}
