//! An unanswered commit of a call with a key: its outcome is determined if possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Pool, Postgres};
use tokio::time::timeout;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use super::traps::{Commit, cut_at_commit};
use crate::idempotency_keys::Idempotency;
use crate::testing::private_postgres::PrivatePostgres;
use crate::testing::{ScriptedServer, Took, Traced};
use crate::transactional::{TransactionalTool, Transactor, after_commit, current, failed};
use crate::{Layer, RetryTool, outcome};

/// Fails a test that hangs.
const GUARD: Duration = Duration::from_secs(60);

async fn prepared() -> PgPool {
    let pool = Postgres::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    pool
}

async fn through(direct: &PgPool, commit: Commit) -> PgPool {
    let options = cut_at_commit(direct.connect_options().as_ref().clone(), commit).await;
    PgPoolOptions::new().connect_with(options).await.expect("the way is open")
}

fn layer(pool: &Pool<Postgres>) -> TransactionalTool<Postgres> {
    let transactor = Transactor::new(pool.clone()).with_timeout(Duration::from_secs(20));
    TransactionalTool::new(transactor).every_write().with_idempotency(Idempotency::new())
}

/// Writes a number, and counts the hooks that run.
fn writer(hooks: &Arc<AtomicU32>) -> ScriptedServer {
    let hooks = Arc::clone(hooks);
    ScriptedServer::new("numbers").with_plain("write", move |call| {
        let hooks = Arc::clone(&hooks);
        async move {
            write::<Postgres>(1).await?;
            let hook = move || async move {
                hooks.fetch_add(1, Ordering::SeqCst);
            };
            assert!(after_commit(hook).is_ok(), "it is in a transaction");
            Ok(ToolResult::text(format!("call {}", call.number)))
        }
    })
}

async fn call(server: &impl McpHandler) -> McpResult<ToolResult> {
    call_with(server, json!({})).await
}

async fn call_with(server: &impl McpHandler, mut args: Value) -> McpResult<ToolResult> {
    args["idempotency_key"] = "secret-key".into();
    let ctx = RequestContext::new();
    let called = server.call_tool("write", args, &ctx);
    timeout(GUARD, called).await.expect("it ends")
}

fn reason(result: &McpResult<ToolResult>) -> Value {
    let data = outcome::failure(result).and_then(|failure| failure.data()?.get("mcp-patterns/transaction").cloned());
    data.unwrap_or_default()
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_found_to_be_done_and_its_hooks_run() {
    let (direct, hooks) = (prepared().await, Arc::default());
    let server = layer(&through(&direct, Commit::CutAfter).await).layer(writer(&hooks));
    let took = Took::begin();
    let answer = call(&server).await.expect("a result");
    took.until("the answer to a commit that was done");
    assert_eq!(answer.first_text(), Some("call 1"), "{answer:?}");
    assert!(!answer.is_error());
    assert_eq!(hooks.load(Ordering::SeqCst), 1);
    assert_eq!(numbers_at_rest(&direct).await, [1]);
}

#[tokio::test]
async fn a_commit_that_never_reached_the_server_is_found_not_done_and_its_key_is_free() {
    let (direct, hooks) = (prepared().await, Arc::default());
    let script = writer(&hooks);
    let server = layer(&through(&direct, Commit::CutBefore).await).layer(script.clone());
    let took = Took::begin();
    let refused = call(&server).await;
    took.until("the answer to a commit that was not done");
    assert_eq!(reason(&refused), "unavailable", "{refused:?}");
    let failure = outcome::failure(&refused).expect("a failure");
    assert!(failure.is_temporary() && failure.is_not_executed());
    assert_eq!((hooks.load(Ordering::SeqCst), numbers_at_rest(&direct).await), (0, NONE.to_vec()));

    let again = call(&layer(&direct).layer(script)).await.expect("a result");
    assert_eq!(again.first_text(), Some("call 2"));
    assert_eq!((hooks.load(Ordering::SeqCst), numbers_at_rest(&direct).await), (1, vec![1]));
}

#[tokio::test]
async fn a_commit_that_the_server_may_still_do_stays_unknown_until_a_later_call_with_the_key() {
    let (direct, hooks) = (prepared().await, Arc::default());
    let script = writer(&hooks);
    let held = through(&direct, Commit::Held).await;
    // The server must not end the transaction meanwhile: then its outcome would be certain.
    let transactor = Transactor::new(held.clone()).with_timeout(Duration::from_millis(100)).with_idle_timeout(GUARD);
    let tool = TransactionalTool::new(transactor).every_write().with_idempotency(Idempotency::new());
    let traced = Traced::start();
    let unknown = call(&tool.layer(script.clone())).await;
    assert_eq!(reason(&unknown), "outcome_unknown", "{unknown:?}");
    let failure = outcome::failure(&unknown).expect("a failure");
    assert!(!failure.is_temporary() && !failure.is_not_executed());
    let text = failure.message();
    let id = text.split_once("(error ").and_then(|(_, id)| id.strip_suffix(')')).expect("it has an id");
    let log = traced.text();
    let line = log.lines().find(|line| line.contains(id) && line.contains("a commit was not answered in time"));
    let line = line.unwrap_or_else(|| panic!("no line has {id}: {log}"));
    for field in ["tool=\"write\"", "key_hash=\"", "attempt=1", "backend=\"PostgreSQL\""] {
        assert!(line.contains(field), "{field}: {line}");
    }
    assert!(!log.contains("secret-key"), "{log}");

    // The server rolls back a transaction whose client is lost.
    sqlx::query(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity \
         where application_name = current_setting('application_name') and pid <> pg_backend_pid() and state like 'idle in%'",
    )
    .execute(&direct)
    .await
    .expect("it may");
    let again = call(&layer(&direct).layer(script)).await.expect("a result");
    assert_eq!(again.first_text(), Some("call 2"));
    assert_eq!(numbers_at_rest(&direct).await, [1]);
}

#[tokio::test]
async fn a_commit_at_a_stopped_backend_is_unknown_and_its_key_has_the_answer_once_the_backend_continues() {
    let server = Arc::new(PrivatePostgres::start(""));
    let pool = PgPoolOptions::new().connect_with(server.options()).await.expect("the server is there");
    sqlx::query("create table t (n bigint)").execute(&pool).await.expect("a table can be made");
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    let stopping = Arc::clone(&server);
    let script = ScriptedServer::new("numbers").with_plain("write", move |call| {
        let server = Arc::clone(&stopping);
        async move {
            write::<Postgres>(1).await?;
            assert!(server.stop_backends() > 0, "this call is connected");
            Ok(ToolResult::text(format!("call {}", call.number)))
        }
    });
    let transactor = Transactor::new(pool.clone()).with_timeout(Duration::from_millis(100)).with_idle_timeout(GUARD);
    let tool = TransactionalTool::new(transactor).every_write().with_idempotency(Idempotency::new());
    let unknown = call(&tool.layer(script.clone())).await;
    assert_eq!(reason(&unknown), "outcome_unknown", "{unknown:?}");

    server.resume_backends();
    let again = call(&layer(&pool).layer(script)).await.expect("a result");
    assert_eq!(again.first_text(), Some("call 1"), "{again:?}");
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

/// Waits until a statement waits for a transaction.
async fn until_blocked(pool: &PgPool) {
    let blocked = "select count(*) from pg_stat_activity where application_name = current_setting('application_name') \
                   and wait_event_type = 'Lock'";
    let is_blocked =
        async { while sqlx::query_scalar::<_, i64>(blocked).fetch_one(pool).await.expect("the server tells") == 0 {} };
    timeout(GUARD, is_blocked).await.expect("it comes to that");
}

/// Makes a call whose connection is cut before the server sees the commit, and another call with its key, which waits
/// in the database until the first is rolled back. Both write their number.
async fn beside_another(direct: &PgPool, [one, other]: [i64; 2]) -> [McpResult<ToolResult>; 2] {
    let cut = through(direct, Commit::CutBefore).await;
    let pool = direct.clone();
    let script = ScriptedServer::new("numbers").with_plain("write", move |call| {
        let pool = pool.clone();
        async move {
            write::<Postgres>(call.args["n"].as_i64().expect("a number")).await?;
            if call.number == 1 {
                until_blocked(&pool).await;
            }
            Ok(ToolResult::text(format!("call {}", call.number)))
        }
    });
    let (cut, whole) = (layer(&cut).layer(script.clone()), layer(direct).layer(script.clone()));
    let ended = tokio::join!(call_with(&cut, json!({ "n": one })), async {
        while script.calls("write") == 0 {
            tokio::task::yield_now().await;
        }
        call_with(&whole, json!({ "n": other })).await
    });
    ended.into()
}

#[tokio::test]
async fn a_commit_in_doubt_gets_the_answer_of_another_call_that_ran_with_its_key() {
    let direct = prepared().await;
    let [one, other] = beside_another(&direct, [1, 1]).await;
    assert_eq!(other.expect("a result").first_text(), Some("call 2"));
    match reason(&one) {
        // The claim that proves the outcome came before the other call's.
        Value::String(reason) => assert_eq!(reason, "unavailable", "{one:?}"),
        _ => assert_eq!(one.expect("a result").first_text(), Some("call 2")),
    }
    assert_eq!(numbers_at_rest(&direct).await, [1]);
}

#[tokio::test]
async fn a_commit_in_doubt_gets_no_answer_of_a_different_call_with_its_key() {
    let direct = prepared().await;
    let [one, other] = beside_another(&direct, [1, 2]).await;
    assert_eq!(other.expect("a result").first_text(), Some("call 2"));
    let reason = reason(&one);
    assert!(reason == "outcome_unknown" || reason == "unavailable", "{one:?}");
    assert_eq!(numbers_at_rest(&direct).await, [2]);
}

#[tokio::test]
async fn a_read_whose_commit_was_not_answered_is_not_in_doubt() {
    let direct = prepared().await;
    let script = ScriptedServer::new("numbers").with_read_only("read", |_| async {
        let mut db = current::<Postgres>().await?;
        let read = sqlx::query("select n from t").fetch_all(&mut *db).await;
        Ok(ToolResult::text(read.map_err(failed)?.len().to_string()))
    });
    let tool = TransactionalTool::new(through(&direct, Commit::CutAfter).await).only(["read"]);
    let ctx = RequestContext::new();
    let refused = tool.layer(script).call_tool("read", json!({}), &ctx).await;
    assert_eq!(reason(&refused), "unavailable", "{refused:?}");
    assert!(outcome::failure(&refused).is_some_and(|failure| failure.is_temporary()));
}

#[tokio::test]
async fn an_outer_retry_repeats_a_commit_in_doubt_once_it_is_known_that_nothing_was_done() {
    let (direct, hooks) = (prepared().await, Arc::default());
    let cut = through(&direct, Commit::CutBefore).await;
    let script = writer(&hooks);
    let traced = Traced::start();
    let refused = call(&(RetryTool::new(), layer(&cut)).layer(script.clone())).await;
    assert_eq!(reason(&refused), "unavailable", "{refused:?}");
    assert_eq!(script.calls("write"), 3);
    assert!(traced.text().contains("attempt=3"), "{}", traced.text());
    assert_eq!(numbers_at_rest(&direct).await, NONE);
}
