//! A concurrency that follows the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use turbomcp_core::McpError;

use super::*;
use crate::limited::Handle;
use crate::testing::client::Client;

/// A server whose tool `search` ends as its arguments say.
fn scripted() -> ScriptedServer {
    ScriptedServer::new("shop").with_read_only("search", |call| async move {
        if let Some(millis) = call.args["ms"].as_u64() {
            tokio::time::sleep(ms(millis)).await;
        }
        match call.args["end"].as_str() {
            Some("overloaded") => Err(McpError::new(ErrorKind::ServerOverloaded, "busy")),
            Some("unavailable") => Err(McpError::unavailable("down")),
            Some("invalid") => Err(McpError::invalid_params("no such page")),
            Some("unknown") => Ok(ToolResult::error("it did not work")),
            _ => Ok(ToolResult::text("done")),
        }
    })
}

fn limit(handle: &Handle) -> usize {
    handle.concurrency("search").expect("it is limited").limit
}

/// Runs as many calls at the same time as are allowed. Each takes 100 ms.
async fn round(server: &impl McpHandler, handle: &Handle, end: &str) {
    let calls = handle.concurrency("search").map_or(1, |in_use| in_use.limit);
    let ada = user("ada");
    let call = || server.call_tool("search", json!({ "ms": 100, "end": end }), &ada);
    join_all((0..calls).map(|_| call())).await;
}

fn adaptive(concurrency: Concurrency) -> (impl McpHandler, Handle) {
    let limits = LimitedTool::new().with_concurrency(Per::Tool, concurrency);
    let handle = limits.handle();
    (limits.layer(scripted()), handle)
}

#[tokio::test(start_paused = true)]
async fn a_limit_rises_by_one_for_each_round_of_calls_that_end_well_up_to_its_highest() {
    let (server, handle) = adaptive(Concurrency::new(4).with_adaptive_limit(2, 7));
    round(&server, &handle, "well").await;
    assert_eq!(limit(&handle), 4, "one call of four");
    let mut seen = Vec::new();
    for _ in 0..6 {
        round(&server, &handle, "well").await;
        seen.push(limit(&handle));
    }
    assert_eq!(seen, [5, 6, 7, 7, 7, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_whose_places_are_mostly_free_does_not_rise() {
    let (server, handle) = adaptive(Concurrency::new(4).with_adaptive_limit(2, 7));
    for _ in 0..100 {
        assert_eq!(search(&server, &user("ada")).await, Ok(()));
    }
    assert_eq!(limit(&handle), 4);
}

#[tokio::test(start_paused = true)]
async fn a_limit_falls_by_a_tenth_for_each_round_with_an_overload_down_to_its_lowest() {
    for end in ["overloaded", "unavailable"] {
        let (server, handle) = adaptive(Concurrency::new(40).with_adaptive_limit(30, 50));
        let mut seen = Vec::new();
        for _ in 0..5 {
            round(&server, &handle, end).await;
            seen.push(limit(&handle));
        }
        // The first call of a server is alone.
        assert_eq!(seen, [36, 32, 30, 30, 30], "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_no_overload_moves_nothing() {
    for end in ["invalid", "unknown"] {
        let (server, handle) = adaptive(Concurrency::new(4).with_adaptive_limit(2, 7));
        for _ in 0..5 {
            round(&server, &handle, end).await;
        }
        assert_eq!(limit(&handle), 4, "{end}");
    }
    // The limit of one user says nothing about the tool.
    let outer = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(4).with_adaptive_limit(2, 7));
    let inner = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1));
    let handle = outer.handle();
    let server = (outer, inner).layer(scripted());
    for _ in 0..5 {
        round(&server, &handle, "well").await;
    }
    assert_eq!(limit(&handle), 4);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_and_those_that_reach_the_timeout_are_an_overload() {
    let slow = Concurrency::new(20).with_adaptive_limit(2, 30);
    let (server, handle) = adaptive(slow.with_slow_after(ms(99)));
    round(&server, &handle, "well").await;
    assert_eq!(limit(&handle), 18);
    let (server, handle) = adaptive(slow.with_slow_after(ms(100)));
    round(&server, &handle, "well").await;
    assert_eq!(limit(&handle), 20, "just in time");
    let limits = LimitedTool::new().with_timeout(ms(50)).with_concurrency(Per::Tool, slow);
    let handle = limits.handle();
    let server = limits.layer(scripted());
    round(&server, &handle, "well").await;
    assert_eq!(limit(&handle), 18);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_client_moves_nothing() {
    let concurrency = Concurrency::new(4).with_adaptive_limit(2, 7).with_slow_after(ms(50));
    for kind in [None, Some(ErrorKind::Timeout), Some(ErrorKind::Transport)] {
        let script = ScriptedServer::new("shop").with_read_only("search", move |call| async move {
            let roots = call.ctx.list_roots().await;
            tokio::time::sleep(ms(100)).await;
            match kind {
                Some(kind) => Err(McpError::new(kind, "the client does not answer")),
                None => Ok(ToolResult::text(format!("{roots:?}"))),
            }
        });
        for layer in [LimitedTool::new(), LimitedTool::new().with_timeout(ms(80))] {
            let layer = layer.with_concurrency(Per::Tool, concurrency);
            let handle = layer.handle();
            let (server, laptop) = (layer.layer(script.clone()), Client::new("laptop"));
            for _ in 0..5 {
                let ctx = laptop.ctx("ada");
                let calls = (0..4).map(|_| server.call_tool("search", json!({}), &ctx));
                join_all(calls).await;
            }
            assert_eq!(limit(&handle), 4, "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_a_limit_that_has_fallen_go_on_and_their_places_are_not_given_to_others() {
    let (server, handle) = adaptive(Concurrency::new(10).with_adaptive_limit(5, 10));
    let ada = user("ada");
    let call = |ms: u64, end: &str| server.call_tool("search", json!({ "ms": ms, "end": end }), &ada);
    let long = join_all((0..9).map(|_| call(1_000, "well")));
    let others = async {
        for _ in 0..5 {
            tokio::time::sleep(ms(10)).await;
            let end = call(10, "overloaded").await.expect("a result");
            assert!(end.is_error());
            let in_use = handle.concurrency("search").expect("it is limited");
            assert_eq!(
                (in_use.limit, in_use.running),
                (9, 9),
                "the first one moved the limit, and no place is free for others"
            );
        }
    };
    let (ends, ()) = tokio::join!(long, others);
    assert!(ends.iter().all(|end| end.as_ref().is_ok_and(|end| !end.is_error())));
    assert_eq!(handle.concurrency("search").map(|in_use| in_use.running), Some(0));
}

/// A service that answers ten calls at the same time in 10 ms each, and refuses others.
#[tokio::test(start_paused = true)]
async fn a_limit_finds_what_a_service_can_bear() {
    let (running, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&running), Arc::clone(&refused));
    let service = ScriptedServer::new("shop").with_read_only("search", move |_| {
        let (running, refused) = counted.clone();
        async move {
            if running.fetch_add(1, Ordering::SeqCst) >= 10 {
                running.fetch_sub(1, Ordering::SeqCst);
                refused.fetch_add(1, Ordering::SeqCst);
                return Err(McpError::new(ErrorKind::ServerOverloaded, "busy"));
            }
            tokio::time::sleep(ms(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(ToolResult::text("done"))
        }
    });
    for start in [1, 10, 100] {
        let concurrency = Concurrency::new(start).with_adaptive_limit(1, 100).with_queue(50).with_max_wait(secs(3_600));
        let limits = LimitedTool::new().with_concurrency(Per::Tool, concurrency);
        let handle = limits.handle();
        let server = limits.layer(service.clone());
        let callers = |calls: usize| {
            let server = server.clone();
            async move {
                let ada = user("ada");
                join_all((0..50).map(|_| async {
                    for _ in 0..calls {
                        let _ = server.call_tool("search", json!({}), &ada).await;
                    }
                }))
                .await;
            }
        };
        callers(200).await;
        refused.store(0, Ordering::SeqCst);
        callers(200).await;
        let (limit, refused) = (limit(&handle), refused.load(Ordering::SeqCst));
        assert!((8..=11).contains(&limit), "from {start} to {limit}");
        assert!(refused < 500, "from {start}: of ten thousand calls, {refused} were too many");
    }
}

#[tokio::test(start_paused = true)]
async fn after_any_ends_no_place_is_lost_or_made_up() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = random.usize(2..20);
        let concurrency = Concurrency::new(start).with_adaptive_limit(2, 20).with_queue(10);
        let (server, handle) = adaptive(concurrency);
        let calls = (0..400).map(|_| {
            let end = ["well", "well", "well", "overloaded", "invalid"][random.usize(..5)];
            let (server, begins, time, leaves) =
                (server.clone(), random.u64(..1_000), random.u64(..50), random.u64(..100));
            async move {
                tokio::time::sleep(ms(begins)).await;
                let ada = user("ada");
                let call = server.call_tool("search", json!({ "ms": time, "end": end }), &ada);
                let _ = tokio::time::timeout(ms(leaves), call).await;
            }
        });
        join_all(calls).await;
        let in_use = handle.concurrency("search").expect("it is limited");
        assert_eq!((in_use.running, in_use.waiting), (0, 0), "seed {seed}");
        // As many as the limit says run at the same time, and no more.
        let ada = user("ada");
        let all = (0..40).map(|_| server.call_tool("search", json!({ "ms": 1_000, "end": "invalid" }), &ada));
        let (_, in_use) = tokio::join!(join_all(all), async {
            tokio::time::sleep(ms(500)).await;
            handle.concurrency("search").expect("it is limited")
        });
        assert_eq!(in_use.running, in_use.limit, "seed {seed}");
    }
}
