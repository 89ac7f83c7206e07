//! The counters.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use metrics_util::debugging::DebuggingRecorder;
use serde_json::json;
use sqlx::{Pool, Postgres};
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::databases::{TestDb, write};
use super::on_each_database;
use super::traps::{Commit, cut_at_commit};
use crate::Layer;
use crate::idempotency_keys::Idempotency;
use crate::testing::{Call, ScriptedServer, counted, counts};
use crate::transactional::{Dialect, TransactionalTool, Transactor, current, failed};

on_each_database! {
    transactions_are_counted_by_tool_and_outcome,
}

async fn ends<DB: TestDb>(call: Call) -> turbomcp_core::McpResult<ToolResult> {
    write::<DB>(1).await?;
    match call.args["ends"].as_str() {
        Some("badly") => Err(McpError::invalid_request("refused")),
        Some("in panic") => std::panic::resume_unwind(Box::new("the tool's own")),
        Some("never") => pending().await,
        _ => Ok(ToolResult::text("written")),
    }
}

async fn transactions_are_counted_by_tool_and_outcome<DB: TestDb>() {
    let pool: Pool<DB> = DB::pool().await;
    TransactionalTool::ensure_schema(&pool).await.expect("the table is made");
    let recorder = DebuggingRecorder::new();
    let script = ScriptedServer::new("numbers").with_plain("write", ends::<DB>).with_plain("other", ends::<DB>);
    let transactor = Transactor::new(pool.clone()).with_timeout(Duration::from_millis(500));
    let transactional = TransactionalTool::new(transactor).only(["write"]).with_idempotency(Idempotency::new());
    let server = ::metrics::with_local_recorder(&recorder, || transactional.layer(script));
    let ctx = RequestContext::new();
    let call = |args| server.call_tool("write", args, &ctx);

    for ends in ["well", "well", "badly", "never"] {
        let _ = call(json!({"ends": ends})).await;
    }
    assert!(AssertUnwindSafe(call(json!({"ends": "in panic"}))).catch_unwind().await.is_err());
    let left = tokio::time::timeout(Duration::from_millis(50), call(json!({"ends": "never"})));
    assert!(left.await.is_err());
    for args in [
        json!({"idempotency_key": "a"}),
        json!({"idempotency_key": "a"}),
        json!({"idempotency_key": "a", "other": true}),
        json!({"idempotency_key": "not a key"}),
    ] {
        let _ = call(args).await;
    }
    let outside = server.call_tool("other", json!({}), &ctx).await.expect("a tool's result");
    assert!(outside.is_error(), "it needs a transaction");
    pool.close().await;
    let _ = call(json!({})).await;

    let expected = counts([
        ("transactions tool=write outcome=committed", 3),
        ("transactions tool=write outcome=rolled_back", 1),
        ("transactions tool=write outcome=timed_out", 1),
        ("transactions tool=write outcome=panicked", 1),
        ("transactions tool=write outcome=cancelled", 1),
        ("transactions tool=write outcome=unused", 2),
        ("transactions tool=write outcome=unavailable", 1),
        ("idempotency tool=write outcome=recorded", 1),
        ("idempotency tool=write outcome=replayed", 1),
        ("idempotency tool=write outcome=refused", 2),
    ]);
    assert_eq!(counted(&recorder), expected);
}

#[tokio::test]
async fn conflicts_retries_and_unknown_outcomes_are_counted() {
    let direct = Postgres::pool().await;
    let recorder = DebuggingRecorder::new();
    let bodies = std::sync::Arc::new(AtomicU32::new(0));
    let script = ScriptedServer::new("numbers").with_plain("write", move |call| {
        let bodies = std::sync::Arc::clone(&bodies);
        async move {
            let first = bodies.fetch_add(1, Ordering::SeqCst) == 0;
            if first || call.args["ends"] == "in conflict" {
                let conflict = "do $$ begin raise exception 'x' using errcode = '40001'; end $$";
                Postgres::execute(&mut *current::<Postgres>().await?, conflict.into()).await.map_err(failed)?;
            }
            Ok(ToolResult::text("written"))
        }
    });
    let ctx = RequestContext::new();
    let transactional = |pool| TransactionalTool::new(Transactor::new(pool).with_max_attempts(3)).only(["write"]);
    let layered = |pool| ::metrics::with_local_recorder(&recorder, || transactional(pool).layer(script.clone()));
    let server = layered(direct.clone());
    for ends in ["well", "in conflict"] {
        let _ = server.call_tool("write", json!({"ends": ends}), &ctx).await;
    }
    let through = cut_at_commit(direct.connect_options().as_ref().clone(), Commit::CutAfter).await;
    let cut = sqlx::PgPool::connect_with(through).await.expect("the way is open");
    let _ = layered(cut).call_tool("write", json!({}), &ctx).await;

    let expected = counts([
        ("transactions tool=write outcome=committed", 1),
        ("transactions tool=write outcome=conflict", 1),
        ("transactions tool=write outcome=unknown", 1),
        ("transaction_retries tool=write", 3),
    ]);
    assert_eq!(counted(&recorder), expected);
}
