use std::sync::atomic::AtomicUsize;

use turbomcp_core::McpError;

use super::*;
use crate::cached::Warmed;
use crate::{CachedTool, ConfigError, Layer, Scope};

fn books(count: usize) -> Vec<(&'static str, Value)> {
    (0..count).map(|book| ("read", json!({"book": book}))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_warmed_is_found_and_counted() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.args["book"] == 13 { Err(McpError::internal("burnt")) } else { Ok(ToolResult::text("a book")) }
    });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    answer(&server, "read", json!({"book": 0}), &nobody()).await;
    let warmed = handle.warm(books(20), 4).await;
    assert_eq!(warmed, Ok(Warmed { loaded: 18, present: 1, failed: 1 }));
    assert_eq!(script.calls("read"), 20);
    for (tool, args) in books(13) {
        answer(&server, tool, args, &nobody()).await;
    }
    assert_eq!(script.calls("read"), 20, "all of them were hits");
    assert_eq!(handle.warm(books(0), 1).await, Ok(Warmed::default()));
}

#[tokio::test]
async fn what_is_public_is_warmed_for_all_users_and_else_for_those_without_a_name() {
    for (scope, expected) in [(Scope::Public, 1), (Scope::Principal, 2)] {
        let script = numbered();
        let layer = CachedTool::new().with_scope(scope);
        let handle = layer.handle();
        let server = layer.layer(script.clone());
        handle.warm(books(1), 1).await.expect("a server");
        answer(&server, "read", json!({"book": 0}), &nobody()).await;
        assert_eq!(script.calls("read"), 1, "{scope:?}");
        answer(&server, "read", json!({"book": 0}), &user("ada")).await;
        assert_eq!(script.calls("read"), expected, "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_as_allowed_are_made_at_a_time_and_never_more() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let script = ScriptedServer::new("library").with_read_only("read", {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |call| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10 + call.number as u64)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(ToolResult::text("a book"))
            }
        }
    });
    for concurrency in [1, 3, 8] {
        most.store(0, Ordering::SeqCst);
        let layer = CachedTool::new();
        let handle = layer.handle();
        let _server = layer.layer(script.clone());
        assert_eq!(handle.warm(books(30), concurrency).await.map(|warmed| warmed.loaded), Ok(30));
        assert_eq!(most.load(Ordering::SeqCst), concurrency);
    }
}

#[tokio::test]
async fn what_cannot_be_warmed_is_refused_before_any_call() {
    let tool = |_| async { Ok(ToolResult::text("done")) };
    let script = ScriptedServer::new("library")
        .with_read_only("read", tool)
        .with_read_only("mine", tool)
        .with_plain("lend", tool);
    let layer = CachedTool::new().with_scope_for("mine", Scope::Session);
    let handle = layer.handle();
    let early = handle.warm(books(1), 1).await.expect_err("no server yet");
    assert_eq!(early, ConfigError::NotLayered { layer: "CachedTool" });
    assert!(early.to_string().contains("on no server yet"), "{early}");

    let _server = layer.layer(script.clone());
    let cases = [
        ("raed", 1, "did you mean `read`?"),
        ("lend", 1, "`lend`"),
        ("mine", 1, "results of `mine` are kept per session"),
        ("read", 0, "use a concurrency of 1 or more"),
    ];
    for (tool, concurrency, sentence) in cases {
        let calls = [("read", json!({})), (tool, json!({}))];
        let mistake = handle.warm(calls, concurrency).await.expect_err(tool);
        assert!(mistake.to_string().contains(sentence), "{mistake}");
    }
    assert_eq!(script.calls("read"), 0);
}

/// The server has the tool, so to say that it has not would send the reader in the wrong direction.
#[tokio::test]
async fn to_warm_a_tool_that_is_not_cached_is_not_called_a_tool_that_does_not_exist() {
    let script = numbered().with_plain("lend", |_| async { Ok(ToolResult::text("lent")) });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let _server = layer.layer(script);
    let mistake = handle.warm([("lend", json!({}))], 1).await.expect_err("it is not cached");
    assert!(!mistake.to_string().contains("which the server does not have"), "{mistake}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_is_dropped_leaves_nothing_under_way() {
    let door = Door::closed();
    let script = numbered_behind(&door);
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    let warming = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.warm([("read", json!({}))], 1).await })
    };
    settle().await;
    warming.abort();
    settle().await;
    assert_eq!((script.calls("read"), handle.stats().failed_loads), (1, 1));
    door.open();
    assert_eq!(read(&server).await, "2");
}
