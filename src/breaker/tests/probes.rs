//! A breaker that is half open.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::{join_all, poll_fn};

use super::*;

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_as_many_reach_the_tool_as_there_are_probes() {
    for probes in [1, 3] {
        let script = server();
        let server = BreakerTool::new().with_probes(probes).layer(script.clone());
        open(&server).await;
        advance(PAUSE).await;
        let before = script.calls("search");
        let calls = (0..1_000).map(|_| call(&server, "search", json!({ "ms": 100 })));
        let refused = join_all(calls).await.iter().filter(|answer| is_refused(answer)).count();
        assert_eq!((script.calls("search") - before, refused), (probes, 1_000 - probes));
        assert!(!is_refused(&call(&server, "search", json!({})).await), "it is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_tasks_as_many_reach_the_tool_as_there_are_probes() {
    let script = server();
    let server = BreakerTool::new().with_probes(3).layer(script.clone());
    open(&server).await;
    advance(PAUSE).await;
    let before = script.calls("search");
    let tasks = (0..1_000).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "search", json!({ "hang": true })).await })
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(script.calls("search") - before, 3);
    // Their callers leave, and the next ones are probes.
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
    let calls = (0..10).map(|_| call(&server, "search", json!({ "ms": 10 })));
    assert_eq!(join_all(calls).await.iter().filter(|answer| !is_refused(answer)).count(), 3);
}

/// A probe that is polled a number of times, and then dropped.
async fn dropped_after(polls: usize, call: impl Future) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_leaves_at_any_await_gives_its_place_to_the_next() {
    let script = ScriptedServer::new("shop").with_read_only("search", |call| async move {
        if call.args.get("fail").is_some() {
            return Err(McpError::unavailable("down"));
        }
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        Ok(ToolResult::text("done"))
    });
    for polls in 0..6 {
        let breaker = BreakerTool::new();
        let handle = breaker.handle();
        let server = breaker.layer(script.clone());
        open(&server).await;
        advance(PAUSE).await;
        for _ in 0..100 {
            dropped_after(polls, call(&server, "search", json!({}))).await;
            assert_eq!(state(&handle, "search"), State::HalfOpen, "after {polls} polls");
        }
        assert!(!is_refused(&call(&server, "search", json!({})).await), "after {polls} polls");
        assert_eq!(state(&handle, "search"), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_lets_the_next_one_through_and_closes_nothing() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    open(&server).await;
    advance(PAUSE).await;
    for _ in 0..10 {
        assert!(!is_refused(&call(&server, "search", json!({ "fail": "invalid_params" })).await));
        assert_eq!(state(&handle, "search"), State::HalfOpen);
    }
    call(&server, "search", json!({})).await.expect("an answer");
    assert_eq!(state(&handle, "search"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_gives_its_place_back_when_its_tool_ends_it() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    open(&server).await;
    advance(PAUSE).await;
    let token = Token::default();
    let ctx = token.ctx();
    let probe = server.call_tool("search", json!({ "ms": 100, "fail": "unavailable" }), &ctx);
    let (probe, refused) = tokio::join!(probe, async {
        token.cancel_after(ms(50)).await;
        call(&server, "search", json!({})).await
    });
    assert_eq!((is_refused(&probe), is_refused(&refused)), (false, true), "it runs");
    assert_eq!(state(&handle, "search"), State::HalfOpen);
    assert!(!is_refused(&call(&server, "search", json!({})).await));
    assert_eq!(state(&handle, "search"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn while_a_probe_runs_the_others_are_refused_at_once_with_the_time_for_which_it_may_keep_them_out() {
    let server = BreakerTool::new().layer(server());
    open(&server).await;
    advance(PAUSE).await;
    let began = Instant::now();
    let (probe, refused) = tokio::join!(call(&server, "search", json!({ "ms": 1_000 })), async {
        let refused = call(&server, "search", json!({})).await;
        (refused, began.elapsed())
    });
    assert!(!is_refused(&probe));
    assert_eq!(refused.1, Duration::ZERO);
    assert_eq!(outcome::failure(&refused.0).expect("it is refused").retry_after(), Some(PAUSE));
}
