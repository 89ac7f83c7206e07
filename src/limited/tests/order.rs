//! The layer together with others.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;
use crate::{CachedTool, IdempotentTool, RetryTool, idempotent::MemoryBackend};

#[tokio::test(start_paused = true)]
async fn retries_outside_wait_as_long_as_the_limit_says() {
    let (script, limits) = (server(), LimitedTool::new().with_rate(Per::Tool, Rate::per_second(2).with_burst(1)));
    let server = (RetryTool::new(), limits).layer(script.clone());
    let began = Instant::now();
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert_eq!(search(&server, &user("ada")).await, Ok(()));
    assert!(began.elapsed() >= ms(500), "{:?}", began.elapsed());
    assert_eq!(script.calls("search"), 2, "a refused attempt reaches no tool");
}

#[tokio::test(start_paused = true)]
async fn hits_of_a_cache_outside_use_nothing() {
    let server = (CachedTool::new(), LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1))).layer(server());
    for _ in 0..10 {
        assert_eq!(search(&server, &user("ada")).await, Ok(()));
    }
    let other_args = call(&server, "search", json!({ "page": 2 }), &user("ada")).await;
    assert_eq!(other_args.map_err(|refusal| refusal.0), Err("rate".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_inside_of_keys_frees_the_key_and_a_timeout_does_not() {
    let limits = LimitedTool::new()
        .with_timeout(ms(100))
        .with_rate(Per::Tool, Rate::per_minute(1))
        .with_cost_by("order", |args| u32::from(args.get("free").is_none()));
    let script = server();
    let server = (IdempotentTool::new(MemoryBackend::new()).only(["order"]), limits).layer(script.clone());
    let order = async |args: Value| call(&server, "order", args, &user("ada")).await.map_err(|refusal| refusal.0);
    let key = |key: &str, ms: u64| json!({ "idempotency_key": format!("7c9e6679-7425-40de-944b-{key}"), "ms": ms });
    assert_eq!(order(key("000000000001", 1)).await, Ok(()));
    assert_eq!(order(key("000000000002", 1)).await, Err("rate".to_owned()));
    tokio::time::advance(secs(60)).await;
    assert_eq!(order(key("000000000002", 1)).await, Ok(()), "the key was free again");
    assert_eq!(order(key("000000000002", 1)).await, Ok(()), "and is answered from the record now");
    assert_eq!(script.calls("order"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_in_the_queue_frees_its_key() {
    let limits = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(1).with_queue(1));
    let server = (IdempotentTool::new(MemoryBackend::new()).only(["order"]), limits).layer(server());
    let args = |key: u32, ms: u64| json!({ "idempotency_key": format!("7c9e6679-7425-40de-944b-{key:012}"), "ms": ms });
    let token = Arc::new(Token::default());
    let cancelling = user("ada").with_cancellation_token(Arc::clone(&token) as _);
    let ada = user("ada");
    let (first, second, ()) = tokio::join!(
        call(&server, "order", args(1, 500), &ada),
        async {
            tokio::time::sleep(ms(10)).await;
            call(&server, "order", args(2, 1), &cancelling).await
        },
        async {
            tokio::time::sleep(ms(20)).await;
            token.cancel();
        },
    );
    assert_eq!((first, second.map_err(|refusal| refusal.0)), (Ok(()), Err("cancelled".to_owned())));
    assert_eq!(call(&server, "order", args(2, 1), &ada).await, Ok(()), "the same key again");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_principal_leaves_the_others_their_answers() {
    let limits = LimitedTool::new()
        .with_rate(Per::Principal, Rate::per_second(10))
        .with_concurrency(Per::Tool, Concurrency::new(20).with_queue(20));
    let server = limits.layer(server());
    let calls = (0..1_000).map(|number| {
        let (server, name) = (server.clone(), if number % 100 == 99 { "ada" } else { "mallory" });
        async move { (name, call(&server, "search", json!({ "ms": 5 }), &user(name)).await.is_ok()) }
    });
    let ends = join_all(calls).await;
    let passed = |of: &str| ends.iter().filter(|(name, is_ok)| *name == of && *is_ok).count();
    assert_eq!((passed("ada"), passed("mallory")), (10, 10));
}
