//! Keys that are recorded in the same transaction as the effect of the call.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Pool;
use tokio::sync::Notify;
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{NONE, TestDb, numbers_at_rest, write};
use super::on_each_database;
use crate::idempotency_keys::{Idempotency, KeySource};
use crate::idempotent::MemoryBackend;
use crate::sweeper::Sweeper;
use crate::testing::ScriptedServer;
use crate::transactional::records::EXPIRED;
use crate::transactional::{TransactionalTool, Transactor};
use crate::{IdempotentTool, Layer, RetryTool, TryLayer};

on_each_database! {
    the_same_key_and_arguments_replay_the_first_answer,
    the_same_key_with_other_arguments_is_refused,
    a_hundred_calls_with_one_key_take_effect_once,
    keys_are_separate_by_principal_tool_and_version,
    a_replay_states_whether_another_connection_got_the_first_answer,
    a_failure_is_recorded_only_on_request,
    a_key_can_be_required_and_is_checked,
    a_read_only_tool_takes_no_key_and_needs_none,
    a_key_can_come_from_the_context,
    an_expired_key_can_be_used_again_and_is_swept,
    an_outer_retry_layer_repeats_only_calls_with_a_key,
    the_key_is_in_the_schema_and_not_in_the_call,
    a_call_with_a_key_inside_a_transaction_ends_with_its_caller,
}

fn numbers<DB: TestDb>() -> ScriptedServer {
    let script = |call: crate::testing::Call| async move {
        assert_eq!(call.args.get("idempotency_key"), None, "the key is the layer's");
        write::<DB>(call.args["n"].as_i64().unwrap_or_default()).await?;
        match call.args["ends"].as_str() {
            Some("badly") => Err(McpError::invalid_request("refused")),
            Some("at first") if call.number == 1 => Err(McpError::unavailable("not yet")),
            _ => Ok(ToolResult::text(format!("written by call {}", call.number))),
        }
    };
    ScriptedServer::new("numbers").with_plain("write", script).with_plain("write_too", script)
}

async fn prepared<DB: TestDb>() -> Pool<DB> {
    let pool = DB::pool().await;
    // Replicas start at the same time.
    for made in join_all((0..4).map(|_| TransactionalTool::ensure_schema(&pool))).await {
        made.expect("the table is made");
    }
    pool
}

fn layer<DB: TestDb>(pool: &Pool<DB>, idempotency: Idempotency) -> TransactionalTool<DB> {
    TransactionalTool::new(pool.clone()).every_write().with_idempotency(idempotency)
}

fn marker(answer: &ToolResult) -> Value {
    answer.meta.as_ref().map_or(Value::Null, |meta| meta.get("mcp-patterns/idempotency").cloned().unwrap_or_default())
}

async fn call(server: &impl McpHandler, args: Value) -> ToolResult {
    server.call_tool("write", args, &RequestContext::new()).await.expect("a tool's result")
}

async fn the_same_key_and_arguments_replay_the_first_answer<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(numbers::<DB>());
    let first = call(&server, json!({"n": 1, "idempotency_key": "a"})).await;
    let again = call(&server, json!({"idempotency_key": "a", "n": 1.0})).await;
    assert_eq!((first.first_text(), marker(&first)), (Some("written by call 1"), Value::Null));
    assert_eq!((again.first_text(), marker(&again)), (Some("written by call 1"), json!("replayed")));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_replay_states_whether_another_connection_got_the_first_answer<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new().recording_failures()).layer(numbers::<DB>());
    for ends in ["well", "badly"] {
        for (connection, elsewhere) in [("1", json!(null)), ("1", json!(null)), ("2", json!(true))] {
            let ctx = RequestContext::new().with_session_id(connection);
            let args = json!({"n": 1, "ends": ends, "idempotency_key": ends});
            let answer = server.call_tool("write", args, &ctx).await.unwrap();
            let marked = answer.meta.as_ref().and_then(|meta| meta.get("mcp-patterns/other-connection"));
            assert_eq!(marked.cloned().unwrap_or_default(), elsewhere, "{ends}, {connection}");
        }
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn the_same_key_with_other_arguments_is_refused<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(numbers::<DB>());
    call(&server, json!({"n": 1, "idempotency_key": "a"})).await;
    let refused = call(&server, json!({"n": 2, "idempotency_key": "a"})).await;
    assert!(refused.is_error());
    let data = &refused.meta.expect("a kind")["io.turbomcp/errorData"];
    assert_eq!(data, &json!({"mcp-patterns/idempotency": "key_reused"}));
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn a_hundred_calls_with_one_key_take_effect_once<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(numbers::<DB>());
    let calls = (0..100).map(|_| call(&server, json!({"n": 1, "idempotency_key": "a"})));
    for answer in join_all(calls).await {
        assert_eq!(answer.first_text(), Some("written by call 1"));
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn keys_are_separate_by_principal_tool_and_version<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new()).layer(numbers::<DB>());
    let newer = layer(&pool, Idempotency::new().with_version("2")).layer(numbers::<DB>());
    let args = || json!({"n": 1, "idempotency_key": "a"});
    for ctx in [RequestContext::new(), RequestContext::new().with_user_id("ada")] {
        for tool in ["write", "write_too"] {
            for server in [&server, &newer] {
                let answer = server.call_tool(tool, args(), &ctx).await.expect("a tool's result");
                assert_eq!(marker(&answer), Value::Null);
            }
        }
    }
    assert_eq!(numbers_at_rest(&pool).await, [1; 8]);
}

async fn a_failure_is_recorded_only_on_request<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let (script, args) = (numbers::<DB>(), || json!({"n": 1, "ends": "badly", "idempotency_key": "a"}));
    let server = layer(&pool, Idempotency::new()).layer(script.clone());
    for calls in 1..=2 {
        assert!(call(&server, args()).await.is_error());
        assert_eq!(script.calls("write"), calls);
    }
    let recording = layer(&pool, Idempotency::new().recording_failures()).layer(script.clone());
    assert!(call(&recording, args()).await.is_error());
    let replayed = call(&recording, args()).await;
    assert_eq!((replayed.first_text(), marker(&replayed)), (Some("refused"), json!("replayed")));
    assert_eq!(script.calls("write"), 3);
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}

async fn a_key_can_be_required_and_is_checked<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new().required_for(["write"])).layer(numbers::<DB>());
    let missing = call(&server, json!({"n": 1})).await;
    assert!(missing.first_text().is_some_and(|text| text.contains("needs an idempotency key")), "{missing:?}");
    for bad in [json!(""), json!("a b"), json!("é"), json!(7), json!("x".repeat(256))] {
        let refused = call(&server, json!({"n": 1, "idempotency_key": bad})).await;
        assert!(refused.first_text().is_some_and(|text| text.contains("1 to 255 characters")), "{refused:?}");
    }
    for good in ["x".repeat(255), "a-B_3.:z".into()] {
        assert!(!call(&server, json!({"n": 1, "idempotency_key": good})).await.is_error());
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 1]);
    let unknown = layer(&pool, Idempotency::new().required_for(["writ"])).try_layer(numbers::<DB>());
    assert!(unknown.err().is_some_and(|mistake| mistake.to_string().contains("did you mean `write`?")));
}

async fn a_read_only_tool_takes_no_key_and_needs_none<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let script = numbers::<DB>().with_read_only("read", |_| async { Ok(ToolResult::text("read")) });
    let transactional = TransactionalTool::new(pool.clone()).when(|_| true);
    let server = transactional.clone().with_idempotency(Idempotency::new().required()).layer(script.clone());
    let answer = server.call_tool("read", json!({}), &RequestContext::new()).await.expect("a tool's result");
    assert_eq!(answer.first_text(), Some("read"));
    let tools = server.list_tools();
    let read = tools.iter().find(|tool| tool.name == "read").expect("it is listed");
    assert_eq!(read.meta, None);

    let read_only = TransactionalTool::new(Transactor::new(pool).read_only()).when(|_| true);
    let mistake =
        read_only.with_idempotency(Idempotency::new()).try_layer(script).expect_err("nothing can be recorded");
    assert!(mistake.to_string().contains("read-only"), "{mistake}");
}

async fn a_key_can_come_from_the_context<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let from = |source| layer(&pool, Idempotency::new().with_source(source)).layer(numbers::<DB>());
    let headers = [("Idempotency-Key".to_owned(), "a".to_owned())].into_iter().collect();
    let by_header = RequestContext::new().with_headers(headers);
    let by_metadata = RequestContext::new().with_metadata("key", "b");
    for (source, ctx) in
        [(KeySource::Header("idempotency-key".into()), by_header), (KeySource::Metadata("key".into()), by_metadata)]
    {
        let server = from(source);
        for replayed in [Value::Null, json!("replayed")] {
            let answer = server.call_tool("write", json!({"n": 1}), &ctx).await.expect("a tool's result");
            assert_eq!(marker(&answer), replayed);
        }
    }
    assert_eq!(numbers_at_rest(&pool).await, [1, 1]);
}

async fn an_expired_key_can_be_used_again_and_is_swept<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new().with_ttl(Duration::from_millis(1))).layer(numbers::<DB>());
    let args = || json!({"n": 1, "idempotency_key": "a"});
    call(&server, args()).await;
    // The record's clock is that of the database.
    while call(&server, args()).await.first_text() != Some("written by call 2") {}
    // The layer sweeps, too, so the last sweep finds nothing.
    let sweeper = Sweeper::new(&EXPIRED);
    while DB::records(&pool).await > 0 {
        sweeper.sweep(&pool).await.expect("records are deleted");
    }
}

async fn an_outer_retry_layer_repeats_only_calls_with_a_key<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    for (args, calls) in
        [(json!({"n": 1, "ends": "at first", "idempotency_key": "a"}), 2), (json!({"n": 2, "ends": "at first"}), 1)]
    {
        let script = numbers::<DB>();
        let server = (RetryTool::new(), layer(&pool, Idempotency::new())).layer(script.clone());
        assert_eq!(call(&server, args).await.is_error(), calls == 1);
        assert_eq!(script.calls("write"), calls);
    }
    assert_eq!(numbers_at_rest(&pool).await, [1]);
}

async fn the_key_is_in_the_schema_and_not_in_the_call<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let server = layer(&pool, Idempotency::new().required_for(["write_too"])).layer(numbers::<DB>());
    for tool in server.list_tools() {
        let properties = tool.input_schema.properties.expect("there is an argument");
        assert_eq!(properties["idempotency_key"]["type"], "string");
        let required = tool.input_schema.required.unwrap_or_default();
        assert_eq!(required.contains(&"idempotency_key".to_owned()), tool.name == "write_too");
    }
}

/// Outside, it continues, and its effect stays. Inside, its effect is rolled back.
async fn a_call_with_a_key_inside_a_transaction_ends_with_its_caller<DB: TestDb>() {
    let pool = prepared::<DB>().await;
    let (begun, alive) = (Arc::new(Notify::new()), Arc::new(()));
    let script = ScriptedServer::new("numbers").with_plain("write", {
        let (begun, alive) = (Arc::clone(&begun), Arc::clone(&alive));
        move |_| {
            let (begun, alive) = (Arc::clone(&begun), Arc::clone(&alive));
            async move {
                write::<DB>(1).await?;
                begun.notify_one();
                std::future::pending::<()>().await;
                drop(alive);
                Ok(ToolResult::text("written"))
            }
        }
    });
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["write"]);
    let server = (TransactionalTool::new(pool.clone()).only(["write"]), keys).layer(script);
    let caller = tokio::spawn(async move { call(&server, json!({"idempotency_key": "a"})).await });
    begun.notified().await;
    caller.abort();
    let ended = async {
        // The script has one, and the test has one.
        while Arc::strong_count(&alive) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the call does not go on");
    assert_eq!(numbers_at_rest(&pool).await, NONE);
}
