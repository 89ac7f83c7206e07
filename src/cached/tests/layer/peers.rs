//! Errors of other caches of MCP tools that this one does not make.

use futures_util::future::join_all;

use super::*;
use crate::{CachedTool, Layer};

#[tokio::test(start_paused = true)]
async fn a_hundred_concurrent_misses_run_one_load() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
    let server = CachedTool::new().layer(script.clone());
    let open = async {
        settle().await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all((0..100).map(|_| read(&server))), open);
    assert!(answers.iter().all(|answer| answer == "1"));
    assert_eq!(script.calls("read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_result_is_not_cached_for_ever() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number == 1 { Ok(ToolResult::error("try again later")) } else { Ok(ToolResult::text("a book")) }
    });
    let server = CachedTool::new().layer(script);
    let result = server.call_tool("read", json!({}), &nobody()).await;
    assert_eq!(failed(&result).1, "try again later");
    assert_eq!(read(&server).await, "a book");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_or_dropped_first_caller_neither_fails_nor_blocks_the_others() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
    let server = CachedTool::new().layer(script.clone());
    for dropped in [true, false] {
        let token = Token::default();
        let leader = {
            let (server, ctx) = (server.clone(), nobody().with_cancellation_token(Arc::new(token.clone())));
            tokio::spawn(async move { server.call_tool("read", json!({"dropped": dropped}), &ctx).await.is_ok() })
        };
        settle().await;
        let followers: Vec<_> = (0..100)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move { answer(&server, "read", json!({"dropped": dropped}), &nobody()).await })
            })
            .collect();
        settle().await;
        if dropped {
            leader.abort();
        } else {
            token.cancel();
        }
        let _ = leader.await;
        gate.open();
        for follower in followers {
            assert!(["1", "2"].contains(&follower.await.expect("an answer").as_str()));
        }
    }
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test]
async fn a_tool_that_writes_runs_each_time() {
    let script = ScriptedServer::new("mail")
        .with_plain("send_email", |call| async move { Ok(ToolResult::text(call.number.to_string())) });
    let server = CachedTool::new().layer(script.clone());
    for number in ["1", "2", "3"] {
        assert_eq!(answer(&server, "send_email", json!({"to": "ada"}), &nobody()).await, number);
    }
    assert_eq!(script.calls("send_email"), 3);
}

#[tokio::test]
async fn identical_calls_through_a_server_wrapped_for_each_request_run_once() {
    let script = numbered();
    let layer = CachedTool::new();
    for _ in 0..12 {
        assert_eq!(read(&layer.layer(script.clone())).await, "1");
    }
    assert_eq!(script.calls("read"), 1);
}
