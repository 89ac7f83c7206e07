//! Calls that take too long.

use super::*;
use crate::limited::{Concurrency, Per};
use crate::testing::client::{Client, ask_name};
use crate::{LimitedTool, RetryTool};

fn breaker() -> BreakerTool {
    BreakerTool::new().with_slow_calls(ms(100))
}

async fn five(server: &impl McpHandler, args: Value) {
    for _ in 0..5 {
        let _ = call(server, "search", args.clone()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_succeed_too_late_open_a_breaker_and_those_in_time_do_not() {
    for (millis, expected) in [(99, State::Closed), (100, State::Open)] {
        let layer = breaker();
        let handle = layer.handle();
        let server = layer.layer(server());
        five(&server, json!({ "ms": millis })).await;
        assert_eq!(state(&handle, "search"), expected);
        let reason = (expected == State::Open).then_some(Reason::SlowCalls);
        assert_eq!(handle.breaker("search").expect("a breaker").transitions.last().map(|last| last.reason), reason);
        assert_eq!(handle.stats().slow, if expected == State::Open { 5 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_counts_whatever_its_failure_says() {
    let layer = breaker();
    let handle = layer.handle();
    let server = layer.layer(server());
    five(&server, json!({ "ms": 200, "fail": "invalid_params" })).await;
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_slow_when_its_caller_left_counts() {
    for (after, expected) in [(ms(99), State::Closed), (ms(101), State::Open)] {
        let layer = breaker();
        let handle = layer.handle();
        let server = layer.layer(server());
        for _ in 0..5 {
            let left = tokio::time::timeout(after, call(&server, "search", json!({ "hang": true }))).await;
            assert!(left.is_err());
        }
        assert_eq!(state(&handle, "search"), expected, "left after {after:?}");
    }
}

/// The timeout of an attempt drops it: for a breaker further in, its caller has left.
#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_opens_the_breaker_under_attempts_with_a_timeout_if_slow_calls_count() {
    for (layer, expected) in [(BreakerTool::new(), State::Closed), (breaker(), State::Open)] {
        let handle = layer.handle();
        let retry = RetryTool::new().with_attempt_timeout(ms(1_000)).with_max_attempts(5);
        let server = (retry, layer).layer(server());
        let _ = call(&server, "search", json!({ "hang": true })).await;
        assert_eq!(state(&handle, "search"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_further_in_counts_without_slow_calls() {
    let layer = BreakerTool::new();
    let handle = layer.handle();
    let server = (layer, LimitedTool::new().with_timeout(ms(50))).layer(server());
    five(&server, json!({ "hang": true })).await;
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_takes_long_is_no_slow_backend_and_no_timeout_of_it() {
    for kind in [None, Some(ErrorKind::Timeout), Some(ErrorKind::Transport)] {
        let script = ScriptedServer::new("shop").with_read_only("search", move |call| async move {
            let name = ask_name(&call.ctx).await?;
            tokio::time::sleep(ms(500)).await;
            match kind {
                Some(kind) => Err(McpError::new(kind, "The client does not answer")),
                None => Ok(ToolResult::text(name)),
            }
        });
        let layer = breaker();
        let handle = layer.handle();
        let (server, laptop) = (layer.layer(script), Client::new("laptop"));
        for _ in 0..10 {
            server.call_tool("search", json!({}), &laptop.ctx("ada")).await.expect("an answer");
        }
        let status = handle.breaker("search").expect("a breaker");
        assert_eq!((status.state, status.failures), (State::Closed, 0), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_list_its_roots_says_nothing_about_the_backend() {
    for kind in [ErrorKind::Timeout, ErrorKind::Transport] {
        let script = ScriptedServer::new("shop").with_read_only("search", move |call| async move {
            call.ctx.list_roots().await.ok();
            Err::<ToolResult, _>(McpError::new(kind, "The client has gone"))
        });
        let layer = breaker();
        let handle = layer.handle();
        let (server, laptop) = (layer.layer(script), Client::new("laptop"));
        for _ in 0..10 {
            server.call_tool("search", json!({}), &laptop.ctx("ada")).await.expect("an answer");
        }
        assert_eq!(state(&handle, "search"), State::Closed, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_after_a_question_counts() {
    let script = ScriptedServer::new("shop").with_read_only("search", |call| async move {
        ask_name(&call.ctx).await?;
        Err::<ToolResult, _>(McpError::unavailable("The service is down"))
    });
    let layer = BreakerTool::new();
    let handle = layer.handle();
    let (server, laptop) = (layer.layer(script), Client::new("laptop"));
    for _ in 0..5 {
        server.call_tool("search", json!({}), &laptop.ctx("ada")).await.expect("an answer");
    }
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_opens_the_breaker_again() {
    let layer = breaker();
    let handle = layer.handle();
    let server = layer.layer(server());
    open(&server).await;
    advance(PAUSE).await;
    assert!(call(&server, "search", json!({ "ms": 200 })).await.is_ok_and(|answer| !answer.is_error()));
    assert_eq!(state(&handle, "search"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_a_queue_further_in_counts() {
    let layer = breaker();
    let handle = layer.handle();
    let one_by_one = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(1).with_queue(1));
    let server = (layer, one_by_one).layer(server());
    let sixty = || call(&server, "search", json!({ "ms": 60 }));
    let (first, second) = tokio::join!(sixty(), sixty());
    assert!(first.is_ok_and(|answer| !answer.is_error()) && second.is_ok_and(|answer| !answer.is_error()));
    assert_eq!(handle.stats().slow, 1);
}
