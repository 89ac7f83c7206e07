//! Tools that end their transaction themselves.

use serde_json::{Value, json};
use sqlx::Pool;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{TestDb, numbers_at_rest, refusal, write};
use super::on_each_database;
use crate::idempotency_keys::{Idempotency, Resolution, ResolveError};
use crate::testing::ScriptedServer;
use crate::transactional::{Dialect, TransactionError, TransactionalTool, Transactor, current};
use crate::{Layer, outcome};

on_each_database! {
    a_tool_that_ends_its_transaction_never_gets_an_error_that_nothing_was_done,
    a_tool_that_commits_and_fails_is_marked,
    the_key_of_a_tool_that_ended_its_transaction_is_ambiguous_until_it_is_resolved,
    an_ambiguous_key_is_refused_for_good_after_the_chosen_time_until_its_ttl,
    an_ambiguous_key_is_not_refused_for_good_before_the_chosen_time,
    an_ambiguous_key_without_further_calls_is_finally_deleted,
    a_tool_that_commits_and_begins_again_is_recorded,
    a_transaction_that_ended_early_is_not_repeated,
    a_transaction_that_ended_normally_is_not_marked,
}

async fn execute<DB: Dialect>(sql: &'static str) -> Result<(), TransactionError> {
    let mut db = current::<DB>().await?;
    Ok(DB::execute(&mut db, sql.into()).await?)
}

async fn prepared<DB: TestDb>() -> Pool<DB> {
    let pool = DB::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    pool
}

/// Writes 1, ends its transaction with the given statement, writes 2, and ends as configured.
fn bank<DB: TestDb>() -> ScriptedServer {
    ScriptedServer::new("bank").with_plain("pay", |call| async move {
        write::<DB>(1).await?;
        for sql in ["COMMIT", "ROLLBACK", "BEGIN"] {
            if call.args["ends"].as_str().is_some_and(|ends| ends.contains(sql)) {
                execute::<DB>(sql).await?;
            }
        }
        write::<DB>(2).await?;
        match call.args["fails"].as_bool() {
            Some(true) => Err(McpError::invalid_params("no such account")),
            _ => Ok(ToolResult::text("paid")),
        }
    })
}

fn layer<DB: TestDb>(pool: &Pool<DB>, idempotency: Idempotency) -> TransactionalTool<DB> {
    TransactionalTool::new(pool.clone()).only(["pay"]).with_idempotency(idempotency)
}

async fn pay(server: &impl McpHandler, args: Value) -> McpResult<ToolResult> {
    server.call_tool("pay", args, &RequestContext::new()).await
}

/// The layers' marks in an answer: of the transaction and of the key.
fn told(answer: &McpResult<ToolResult>) -> (Value, Value) {
    let noted = |word: &str| {
        let meta = answer.as_ref().ok().and_then(|answer| answer.meta.as_ref()?.get(word).cloned());
        let data = || outcome::failure(answer)?.data()?.get(word).cloned();
        meta.or_else(data).unwrap_or_default()
    };
    (noted("mcp-patterns/transaction"), noted("mcp-patterns/idempotency"))
}

async fn a_tool_that_ends_its_transaction_never_gets_an_error_that_nothing_was_done<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(bank::<DB>());
    for ends in ["COMMIT", "ROLLBACK"] {
        let answer = pay(&server, json!({"ends": ends})).await;
        assert_eq!(told(&answer).0, "ended_early");
        assert!(!outcome::failure(&answer).expect("it is no success").is_not_executed());
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 2, 2], "so it was");
    let transactor = Transactor::new(pool);
    assert_eq!(transactor.run(&(), || execute::<DB>("COMMIT")).await, Err(TransactionError::EndedEarly));
    assert_eq!(transactor.run(&(), || write::<DB>(3)).await, Ok(()), "the connections are clean");
}

async fn a_tool_that_commits_and_fails_is_marked<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(bank::<DB>());
    let answer = pay(&server, json!({"ends": "COMMIT", "fails": true})).await;
    let failure = outcome::failure(&answer).expect("a failure");
    assert_eq!(failure.message(), "no such account", "it is the tool's own");
    assert!(!failure.is_not_executed(), "but no proof");
    let undone = pay(&server, json!({"fails": true})).await;
    assert!(outcome::failure(&undone).expect("a failure").is_not_executed(), "a rollback is");
}

async fn the_key_of_a_tool_that_ended_its_transaction_is_ambiguous_until_it_is_resolved<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let tool = layer(&pool, Idempotency::new());
    let handle = tool.handle();
    assert!(matches!(handle.ambiguous(None, 10).await, Err(ResolveError::NotLayered)));
    let script = bank::<DB>();
    let server = tool.layer(script.clone());
    let mut calls = 0;
    for ends in ["COMMIT", "ROLLBACK"] {
        for fails in [false, true] {
            let key = format!("{ends}-{fails}");
            let args = json!({"ends": ends, "fails": fails, "idempotency_key": key});
            let first = pay(&server, args.clone()).await;
            assert_eq!(told(&first), (json!("ended_early"), json!("ambiguous")), "{key}");
            calls += 1;
            for _ in 0..2 {
                let again = pay(&server, args.clone()).await;
                assert_eq!(told(&again).1, "ambiguous", "{key}");
                assert!(!outcome::failure(&again).expect("a refusal").is_temporary());
            }
            let listed = handle.ambiguous(None, 10).await.expect("they are listed");
            let [call] = &listed.calls[..] else { panic!("one is ambiguous: {listed:?}") };
            assert_eq!((call.tool.as_str(), call.key.as_str(), listed.next), ("pay", key.as_str(), None));
            assert_eq!(Some(call.caller()), handle.caller(&RequestContext::new()).as_deref());
            assert_eq!(script.calls("pay"), calls);
            if fails {
                handle.resolve_listed(call, Resolution::NotDone).await.expect("it is resolved");
                pay(&server, args.clone()).await.expect("a result");
                calls += 1;
                assert_eq!(script.calls("pay"), calls, "it is made again");
                let nobody = RequestContext::new();
                let seen = Resolution::Done(ToolResult::text("seen"));
                handle.resolve(&nobody, "pay", &key, seen).await.expect("it is resolved");
            } else {
                handle.resolve_listed(call, Resolution::Done(ToolResult::text("seen"))).await.expect("it is resolved");
            }
            let replay = pay(&server, args).await;
            assert_eq!(replay.as_ref().ok().and_then(ToolResult::first_text), Some("seen"));
            assert_eq!(told(&replay).1, "replayed");
            assert_eq!(handle.ambiguous(None, 10).await.expect("they are listed").calls, []);
        }
    }
}

async fn an_ambiguous_key_is_refused_for_good_after_the_chosen_time_until_its_ttl<DB: TestDb>() {
    use std::time::Duration;
    let pool = prepared::<DB>().await;
    let moment = Duration::from_millis(300);
    let idempotency = Idempotency::new().with_ttl(2 * moment).with_final_refusal_after(moment);
    let tool = layer(&pool, idempotency);
    let handle = tool.handle();
    let script = bank::<DB>();
    let server = tool.layer(script.clone());
    let args = json!({"ends": "COMMIT", "idempotency_key": "a"});
    assert_eq!(told(&pay(&server, args.clone()).await).1, "ambiguous");
    let refusal = loop {
        let answer = pay(&server, args.clone()).await;
        if told(&answer).1 != "ambiguous" {
            break answer;
        }
        assert_eq!(script.calls("pay"), 1);
    };
    assert_eq!(told(&refusal).1, "unresolved");
    let failure = outcome::failure(&refusal).expect("a refusal");
    assert!(failure.message().contains("This answer is final"), "{}", failure.message());
    assert!(!failure.is_temporary() && !failure.is_not_executed());
    let nobody = RequestContext::new();
    let late = handle.resolve(&nobody, "pay", "a", Resolution::NotDone).await;
    assert!(matches!(late, Err(ResolveError::Answered)), "what is final is not resolved: {late:?}");
    let last = loop {
        let answer = pay(&server, args.clone()).await;
        if told(&answer).1 != "replayed" {
            break answer;
        }
        assert_eq!(outcome::failure(&answer).expect("a refusal").message(), failure.message());
        assert_eq!(script.calls("pay"), 1);
    };
    assert_eq!((told(&last).1, script.calls("pay")), (json!("ambiguous"), 2), "then the key is a new one");
}

async fn an_ambiguous_key_is_not_refused_for_good_before_the_chosen_time<DB: TestDb>() {
    use std::time::Duration;
    let pool = prepared::<DB>().await;
    let hour = Duration::from_secs(3600);
    let server = layer(&pool, Idempotency::new().with_final_refusal_after(hour)).layer(bank::<DB>());
    let args = json!({"ends": "COMMIT", "idempotency_key": "a"});
    for _ in 0..3 {
        assert_eq!(told(&pay(&server, args.clone()).await).1, "ambiguous");
    }
    assert_eq!(TransactionalTool::sweep(&pool).await.expect("a sweep"), 0, "it is kept");
}

async fn an_ambiguous_key_without_further_calls_is_finally_deleted<DB: TestDb>() {
    use std::time::Duration;
    let pool = prepared::<DB>().await;
    let moment = Duration::from_millis(50);
    let script = bank::<DB>();
    let ends = Idempotency::new().with_ttl(moment).with_final_refusal_after(moment);
    let server = layer(&pool, ends).layer(script.clone());
    let args = json!({"ends": "COMMIT", "idempotency_key": "a"});
    assert_eq!(told(&pay(&server, args.clone()).await).1, "ambiguous");
    let swept = async {
        while TransactionalTool::sweep(&pool).await.expect("a sweep") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.expect("it is deleted later");
    pay(&server, args).await.expect("a result");
    assert_eq!(script.calls("pay"), 2, "the key is a new one");
}

async fn a_tool_that_commits_and_begins_again_is_recorded<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(bank::<DB>());
    let args = json!({"ends": "COMMIT, BEGIN", "idempotency_key": "a"});
    assert_eq!(told(&pay(&server, args.clone()).await), (Value::Null, Value::Null));
    assert_eq!(told(&pay(&server, args).await).1, "replayed");
    // A failure in the second transaction leaves the first committed, and so its claim.
    let args = json!({"ends": "COMMIT, BEGIN", "fails": true, "idempotency_key": "b"});
    pay(&server, args.clone()).await.expect("a result");
    assert_eq!(told(&pay(&server, args).await).1, "ambiguous");
    assert_eq!(numbers_at_rest(&pool).await, [1, 1, 2]);
}

async fn a_transaction_that_ended_early_is_not_repeated<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let transactor = Transactor::new(pool.clone());
    let run = transactor.run(&(), || async {
        write::<DB>(1).await?;
        execute::<DB>("COMMIT").await?;
        // The error of the database for a conflict with another transaction.
        crate::scope::current::<crate::transactional::control::Control>().expect("a transaction").note_conflict();
        Err::<(), _>(refusal())
    });
    assert_eq!(run.await, Err(refusal()));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_transaction_that_ended_normally_is_not_marked<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(bank::<DB>());
    for fails in [false, true] {
        let answer = pay(&server, json!({"fails": fails, "idempotency_key": format!("{fails}")})).await;
        assert_eq!(told(&answer), (Value::Null, Value::Null));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 2]);
}
