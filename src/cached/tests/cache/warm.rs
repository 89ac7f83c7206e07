use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tracing_subscriber::fmt::MakeWriter;
use turbomcp_core::McpError;

use super::lookup::{Far, Hearing};
use super::*;
use crate::cached::{Cache, MemoryLevel, Warmed};
use crate::{CachedTool, ConfigError, Layer, Scope};

fn books(count: usize) -> Vec<(&'static str, Value)> {
    (0..count).map(|book| ("read", json!({"book": book}))).collect()
}

#[tokio::test(start_paused = true)]
async fn warmed_values_are_hits_and_are_counted() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.args["book"] == 13 { Err(McpError::internal("burnt")) } else { Ok(ToolResult::text("a book")) }
    });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    answer(&server, "read", json!({"book": 0}), &nobody()).await;
    let warmed = handle.warm(books(20), 4).await.expect("a server");
    assert_eq!((warmed.loaded, warmed.present), (18, 1));
    let error = warmed.complete().expect_err("a book is burnt");
    assert_eq!(error.message, r#"the cache lacks 1 of 20: read {"book":13} (burnt)"#);
    assert_eq!(script.calls("read"), 20);
    for (tool, args) in books(13) {
        answer(&server, tool, args, &nobody()).await;
    }
    assert_eq!(script.calls("read"), 20, "all of them were hits");
    assert_eq!(handle.warm(books(0), 1).await, Ok(Warmed::default()));
    assert!(Warmed::default().complete().is_ok(), "nothing is missing");
}

#[tokio::test]
async fn public_results_are_warmed_for_all_users_and_others_for_anonymous_callers() {
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
async fn a_warm_up_runs_as_many_calls_at_once_as_allowed() {
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
async fn a_warm_up_that_cannot_work_is_refused_before_any_call() {
    let tool = |_| async { Ok(ToolResult::text("done")) };
    let script = ScriptedServer::new("library")
        .with_read_only("read", tool)
        .with_read_only("mine", tool)
        .with_plain("lend", tool);
    let layer = CachedTool::new().with_scope_for("mine", Scope::Session);
    let handle = layer.handle();
    let early = handle.warm(books(1), 1).await.expect_err("no server yet");
    assert_eq!(early, ConfigError::NotLayered { layer: "CachedTool" });
    assert!(early.to_string().contains("is not on a server yet"), "{early}");

    let _server = layer.layer(script.clone());
    let cases = [
        ("raed", 1, "did you mean `read`?"),
        ("lend", 1, "`lend`"),
        ("mine", 1, "results of `mine` are kept for each session"),
        ("read", 0, "`concurrency` must be greater than zero"),
    ];
    for (tool, concurrency, sentence) in cases {
        let calls = [("read", json!({})), (tool, json!({}))];
        let mistake = handle.warm(calls, concurrency).await.expect_err(tool);
        assert!(mistake.to_string().contains(sentence), "{mistake}");
    }
    assert_eq!(script.calls("read"), 0);
}

/// The server has the tool, so an error that calls it unknown would mislead the reader.
#[tokio::test]
async fn the_error_of_warming_an_uncached_tool_does_not_call_it_unknown() {
    let script = numbered().with_plain("lend", |_| async { Ok(ToolResult::text("lent")) });
    let layer = CachedTool::new();
    let handle = layer.handle();
    let _server = layer.layer(script);
    let mistake = handle.warm([("lend", json!({}))], 1).await.expect_err("it is not cached");
    assert!(!mistake.to_string().contains("which the server does not have"), "{mistake}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_is_dropped_leaves_no_load_running() {
    let gate = Gate::closed();
    let script = numbered_behind(&gate);
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
    gate.open();
    assert_eq!(read(&server).await, "2");
}

/// The square of a number below 100, and an error for others.
async fn square(number: u32) -> Result<u32, McpError> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    if number < 100 { Ok(number * number) } else { Err(McpError::resource_not_found(format!("{number} is too large"))) }
}

#[tokio::test(start_paused = true)]
async fn the_engine_warms_every_loadable_key_and_reports_the_failed_ones() {
    let cache = Cache::new();
    cache.insert(1, 1);
    let warmed = cache.warm(&(), [1, 100, 2, 3], 2, square).await.expect("a concurrency");
    assert_eq!((warmed.loaded, warmed.present, warmed.failed.len()), (2, 1, 1));
    assert_eq!(warmed.failed[0].key, "100");
    assert!(warmed.failed[0].error.contains("100 is too large"), "{:?}", warmed.failed);
    assert_eq!([1, 2, 3, 100].map(|key| cache.get(&key)), [Some(1), Some(4), Some(9), None]);
    let again = cache.warm(&(), [1, 100, 2, 3], 2, square).await.expect("a concurrency");
    assert_eq!((again.loaded, again.present, again.failed.len()), (0, 3, 1));
    assert_eq!(again.complete().expect_err("one is missing").kind, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_takes_a_value_of_another_replica_without_a_load() {
    let level = MemoryLevel::new();
    let replica = || Cache::new().with_second_level("squares", level.clone());
    let (a, b) = (replica(), replica());
    a.warm(&(), 0..50, 10, square).await.expect("a concurrency");
    settle().await;
    let warmed = b.warm(&(), 0..50, 10, square).await.map(|warmed| (warmed.loaded, warmed.present));
    assert_eq!((warmed, b.stats().loads), (Ok((0, 50)), 0));
    assert_eq!(b.get(&7), Some(49));
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_waits_at_most_one_second_for_a_subscription_and_its_values_are_kept() {
    for hearing in [Hearing::Missing, Hearing::Fails, Hearing::Hangs, Hearing::Panics] {
        let cache = Cache::new().with_second_level("squares", Far::new(hearing));
        let warming = cache.warm(&(), 0..5, 5, square);
        let warmed = tokio::time::timeout(Duration::from_millis(1_100), warming).await;
        assert_eq!(warmed.expect("it ends in time").map(|warmed| warmed.loaded), Ok(5), "{hearing:?}");
        assert_eq!(cache.get(&4), Some(16), "{hearing:?}");
    }
    let (cache, token) = (Cache::new().with_second_level("squares", Far::new(Hearing::Hangs)), Token::default());
    token.cancel();
    let ctx = nobody().with_cancellation_token(Arc::new(token));
    let warmed = tokio::time::timeout(Duration::from_millis(50), cache.warm(&ctx, 0..5, 5, square)).await;
    assert_eq!(warmed.expect("it ends in time").map(|warmed| warmed.failed.len()), Ok(5));
}

#[tokio::test(start_paused = true)]
async fn the_engine_warms_as_many_keys_at_once_as_allowed() {
    let cache = Cache::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = |number| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let value = square(number).await;
            now.fetch_sub(1, Ordering::SeqCst);
            value
        }
    };
    let refused = cache.warm(&(), 0..30, 0, &load).await.expect_err("none at a time");
    assert!(refused.to_string().contains("`concurrency` must be greater than zero"), "{refused}");
    assert_eq!(most.load(Ordering::SeqCst), 0);
    assert_eq!(cache.warm(&(), 0..30, 3, load).await.map(|warmed| warmed.loaded), Ok(30));
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_during_a_warm_up_shares_its_load() {
    let cache = Cache::new();
    let asks = async {
        settle().await;
        cache.get_or_load(&(), 7, || async { Ok(0) }).await
    };
    let (warmed, asked) = tokio::join!(cache.warm(&(), [7], 1, square), asks);
    assert_eq!((warmed.map(|warmed| warmed.loaded), asked.ok()), (Ok(1), Some(49)));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_or_dropped_warm_up_starts_no_further_load() {
    for is_dropped in [false, true] {
        let (cache, token) = (Cache::new(), Token::default());
        let ctx = nobody().with_cancellation_token(Arc::new(token.clone()));
        let warming = {
            let cache = cache.clone();
            tokio::spawn(async move { cache.warm(&ctx, 0..1_000, 10, square).await })
        };
        tokio::time::sleep(Duration::from_millis(15)).await;
        if is_dropped {
            warming.abort();
        } else {
            token.cancel();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(warming.is_finished());
        let loads = cache.stats().loads;
        assert!(loads < 100, "{loads} loads");
        tokio::time::sleep(MINUTE).await;
        assert_eq!(cache.stats().loads, loads);
        if let Ok(warmed) = warming.await {
            let warmed = warmed.expect("a concurrency");
            assert_eq!(warmed.loaded + warmed.failed.len(), 1_000, "missing keys are reported");
            assert!(warmed.complete().is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_reports_ten_failures_and_counts_the_others() {
    let cache = Cache::new();
    let warmed = cache.warm(&(), 100..113, 1, square).await.expect("a concurrency");
    let error = warmed.complete().expect_err("all are missing").message;
    assert!(error.starts_with("the cache lacks 13 of 13: 100 ("), "{error}");
    assert!(error.contains("; 109 (") && !error.contains("110"), "{error}");
    assert!(error.ends_with("; and 3 more"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_logs_progress_ten_times_and_the_first_ten_failures() {
    let log: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| log.make_writer()).finish();
    let listening = tracing::subscriber::set_default(subscriber);
    // With only one subscriber, tracing caches the interest of the first thread that reaches an event, which may have
    // no subscriber.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let cache = Cache::new();
    cache.warm(&(), 0..1_000, 7, square).await.expect("a concurrency");
    drop(listening);
    let log = String::from_utf8(log.lock().expect("no panic").clone()).expect("a text");
    let times = |what: &str| log.matches(what).count();
    assert_eq!((times("warming the cache done="), times("not warmed")), (10, 10), "{log}");
    for told in ["done=1000 of=1000", "cache warmed loaded=100 present=0 failed=900", "not warmed key=\"100\" error="] {
        assert!(log.contains(told), "{told}: {log}");
    }
}
