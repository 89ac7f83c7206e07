//! The layer together with others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::idempotency_keys::Idempotency;
use crate::idempotent::MemoryBackend;
use crate::limited::{Per, Rate};
use crate::testing::counted;
use crate::{
    BatchedTool, BoxHandler, CachedTool, IdempotentTool, LimitedTool, RetryTool, TransactionalTool, boxed, explain,
};

#[tokio::test(start_paused = true)]
async fn inside_the_retries_each_attempt_counts_and_outside_only_calls() {
    let retry = || RetryTool::new().without_budget();
    let reaches = async |stack: &dyn Fn(ScriptedServer) -> BoxHandler| {
        let script = server();
        let server = stack(script.clone());
        for _ in 0..10 {
            let _ = call(&server, "search", down()).await;
        }
        script.calls("search")
    };
    let right = reaches(&|script| boxed((retry(), BreakerTool::new()).layer(script))).await;
    let wrong = reaches(&|script| boxed((BreakerTool::new(), retry()).layer(script))).await;
    assert_eq!((right, wrong), (5, 15));
}

#[tokio::test(start_paused = true)]
async fn a_cache_outside_answers_while_the_breaker_is_open() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = (CachedTool::new(), breaker).layer(server());
    call(&server, "search", json!({})).await.expect("an answer");
    assert!(handle.force_open("search"));
    assert!(!is_refused(&call(&server, "search", json!({})).await), "a hit");
    assert!(is_refused(&call(&server, "search", json!({ "page": 2 })).await), "a miss");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_uses_nothing_of_a_limit_further_in() {
    let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(6));
    let server = (BreakerTool::new(), limits).layer(server());
    open(&server).await;
    for _ in 0..10 {
        assert!(is_refused(&call(&server, "search", json!({})).await));
    }
    advance(PAUSE).await;
    assert!(call(&server, "search", json!({})).await.is_ok_and(|answer| !answer.is_error()), "the sixth");
}

/// For `docs/reliability.md`.
#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_costs_five_timeouts_and_then_one_call_in_each_pause() {
    let works = Arc::new(AtomicBool::new(false));
    let service = Arc::clone(&works);
    let script = ScriptedServer::new("shop").with_read_only("search", move |_| {
        let works = service.load(Ordering::SeqCst);
        async move { if works { Ok(ToolResult::text("done")) } else { std::future::pending().await } }
    });
    let timeout = LimitedTool::new().with_timeout(Duration::from_secs(1));
    let server = (BreakerTool::new(), timeout).layer(script.clone());
    let calls_for = async |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            let answer = call(&server, "search", json!({})).await;
            if outcome::failure(&answer).is_none() {
                return true;
            }
            tokio::time::sleep(ms(10)).await;
        }
        false
    };
    assert!(!calls_for(5).await);
    assert_eq!(script.calls("search"), 5);
    assert!(!calls_for(60).await);
    assert_eq!(script.calls("search"), 5 + 10, "a probe of a second after each pause of five");
    works.store(true, Ordering::SeqCst);
    assert!(calls_for(6).await, "within a pause");
}

#[test]
fn wrong_orders_are_warned_of() {
    let mistakes = |server: BoxHandler| explain(&server).strict().err().map(|mistakes| mistakes.to_string());
    let retry = mistakes(boxed((BreakerTool::new(), RetryTool::new()).layer(server())));
    assert!(retry.is_some_and(|text| text.contains("BreakerTool is outside RetryTool")));
    let cache = mistakes(boxed((BreakerTool::new(), CachedTool::new()).layer(server())));
    assert!(cache.is_some_and(|text| text.contains("BreakerTool is outside CachedTool")));
    let right = (CachedTool::new(), RetryTool::new(), BreakerTool::new()).layer(server());
    assert_eq!(mistakes(boxed(right)), None);
}

#[tokio::test(start_paused = true)]
async fn a_cache_outside_serves_stale_answers_while_the_breaker_is_open() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let cache = CachedTool::new().with_ttl(Duration::from_secs(1)).with_stale_if_error(Duration::from_secs(3_600));
    let server = (cache, breaker).layer(server());
    call(&server, "search", json!({})).await.expect("an answer");
    assert!(handle.force_open("search"));
    advance(Duration::from_secs(60)).await;
    let answer = call(&server, "search", json!({})).await.expect("an answer");
    assert_eq!(answer.first_text(), Some("done"));
}

#[tokio::test(start_paused = true)]
async fn around_batches_a_shared_failure_counts_once_for_each_caller_and_inside_no_bulk_function_is_seen() {
    let batched = || {
        BatchedTool::new().with_bulk("search", |calls: Vec<crate::batched::Call>| async move {
            calls.iter().map(|_| Err::<String, _>(McpError::unavailable("down"))).collect::<Vec<_>>()
        })
    };
    for is_outside in [true, false] {
        let breaker = BreakerTool::new();
        let handle = breaker.handle();
        let server = match is_outside {
            true => boxed((breaker, batched()).layer(server())),
            false => boxed((batched(), breaker).layer(server())),
        };
        let calls = (0..4).map(|page| call(&server, "search", json!({ "page": page })));
        futures_util::future::join_all(calls).await;
        let failures = if is_outside { 4 } else { 0 };
        assert_eq!(handle.breaker("search").expect("a breaker").failures, failures);
    }
}

#[tokio::test]
async fn outside_of_the_transaction_a_refused_call_begins_none() {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.expect("a database");
    for (is_outside, begun) in [(true, 0), (false, 3)] {
        let recorder = metrics_util::debugging::DebuggingRecorder::new();
        let breaker = BreakerTool::new();
        let handle = breaker.handle();
        let transactional = TransactionalTool::new(pool.clone()).only(["order"]);
        let server = ::metrics::with_local_recorder(&recorder, || match is_outside {
            true => boxed((breaker, transactional).layer(server())),
            false => boxed((transactional, breaker).layer(server())),
        });
        assert!(handle.force_open("order"));
        for _ in 0..3 {
            assert!(is_refused(&call(&server, "order", json!({})).await));
        }
        let transactions = counted(&recorder).into_iter().filter(|(name, _)| name.starts_with("transactions "));
        assert_eq!(transactions.map(|(_, count)| count).sum::<u64>(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_keeps_failures_keeps_no_refusal() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let cache = CachedTool::new().with_negative_ttl([ErrorKind::Unavailable], Duration::from_secs(60));
    let script = server();
    let server = (cache, breaker).layer(script.clone());
    assert!(handle.force_open("search"));
    assert!(is_refused(&call(&server, "search", json!({})).await));
    assert!(handle.release("search"));
    assert!(call(&server, "search", json!({})).await.is_ok_and(|answer| !answer.is_error()));
    for _ in 0..3 {
        assert!(call(&server, "search", down()).await.is_ok_and(|answer| answer.is_error()));
    }
    assert_eq!(script.calls("search"), 2, "a failure of the tool is kept");
}

#[tokio::test]
async fn keys_that_record_failures_record_no_refusal() {
    let pool =
        sqlx::SqlitePool::connect_with("sqlite::memory:".parse().expect("an address")).await.expect("a database");
    TransactionalTool::ensure_schema(&pool).await.expect("a table");
    let keys = || Idempotency::new().recording_failures();
    let in_memory = IdempotentTool::new(MemoryBackend::new()).only(["order"]).with_idempotency(keys());
    let in_sql = TransactionalTool::new(pool).only(["order"]).with_idempotency(keys());
    for is_in_sql in [false, true] {
        let breaker = BreakerTool::new();
        let handle = breaker.handle();
        let script = server();
        let server = match is_in_sql {
            false => boxed((in_memory.clone(), breaker).layer(script.clone())),
            true => boxed((in_sql.clone(), breaker).layer(script.clone())),
        };
        let order = async |key: &str, args: Value| {
            let mut args = args;
            args["idempotency_key"] = json!(key);
            call(&server, "order", args).await
        };
        assert!(handle.force_open("order"));
        assert!(is_refused(&order("key-1", json!({})).await));
        assert!(handle.release("order"));
        assert!(order("key-1", json!({})).await.is_ok_and(|answer| !answer.is_error()), "in SQL: {is_in_sql}");
        for _ in 0..3 {
            assert!(order("key-2", json!({ "fail": "permission_denied" })).await.is_ok_and(|answer| answer.is_error()));
        }
        assert_eq!(script.calls("order"), 2, "a failure of the tool is kept, in SQL: {is_in_sql}");
    }
}

#[tokio::test(start_paused = true)]
async fn inside_of_a_limit_a_refused_call_uses_its_rate() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = (LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(1)), breaker).layer(server());
    assert!(handle.force_open("search"));
    assert!(is_refused(&call(&server, "search", json!({})).await));
    assert!(handle.release("search"));
    let answer = call(&server, "search", json!({})).await;
    assert_eq!(outcome::failure(&answer).and_then(|failure| failure.kind()), Some(ErrorKind::RateLimited));
}
