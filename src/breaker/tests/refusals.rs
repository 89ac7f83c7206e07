//! The answers to calls that are not let through.

use super::*;
use crate::idempotent::MemoryBackend;
use crate::{IdempotentTool, RetryTool};

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_at_once_and_says_when_the_next_probe_may_run() {
    let script = server();
    let server = BreakerTool::new().layer(script.clone());
    open(&server).await;
    let calls = script.calls("search");
    advance(ms(2_500)).await;
    let began = Instant::now();
    let answer = call(&server, "search", json!({})).await;
    assert_eq!((began.elapsed(), script.calls("search")), (Duration::ZERO, calls));
    assert!(answer.is_ok(), "a model reads it: {answer:?}");
    let failure = outcome::failure(&answer).expect("it is refused");
    assert_eq!(failure.kind(), Some(ErrorKind::Unavailable));
    assert_eq!(failure.retry_after(), Some(ms(2_500)));
    assert!(failure.is_exhausted() && failure.is_not_executed());
    assert_eq!(
        failure.message(),
        "`search` is not available: too many of its last calls failed or were too slow. Try again in 3 s. Nothing was done"
    );
    // The time is true: not before, and then at once.
    advance(ms(2_499)).await;
    let refused = call(&server, "search", json!({})).await;
    assert_eq!(outcome::failure(&refused).expect("it is refused").retry_after(), Some(ms(1)));
    advance(ms(1)).await;
    assert!(!is_refused(&call(&server, "search", json!({})).await));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_nothing_of_the_errors_behind_it() {
    let server = BreakerTool::new().layer(server());
    open(&server).await;
    let refused = call(&server, "search", json!({})).await.expect("a result");
    assert!(!serde_json::to_string(&refused).expect("JSON").contains("secret"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_switched_off_tool_is_refused_without_a_time() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    assert!(handle.force_open("search"));
    let answer = call(&server, "search", json!({})).await;
    let failure = outcome::failure(&answer).expect("it is refused");
    assert_eq!(failure.message(), "`search` is switched off for now. Nothing was done");
    assert_eq!((failure.retry_after(), failure.is_exhausted()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn no_retry_outside_waits_for_an_open_breaker() {
    let script = server();
    let server = (RetryTool::new().with_max_attempts(10), BreakerTool::new()).layer(script.clone());
    let began = Instant::now();
    let answer = call(&server, "search", down()).await;
    assert!(is_refused(&answer), "the sixth attempt");
    assert!(began.elapsed() < PAUSE, "{:?}", began.elapsed());
    let meta = answer.expect("a result").meta.expect("it has notes");
    assert_eq!((&meta[outcome::ATTEMPTS], &meta[outcome::EXHAUSTED]), (&json!(6), &json!("breaker")));
    assert_eq!(script.calls("search"), 5);
    let began = Instant::now();
    assert!(is_refused(&call(&server, "search", json!({})).await));
    assert_eq!(began.elapsed(), Duration::ZERO, "and now the first");
}

/// An earlier attempt may have taken effect.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_other_attempts_does_not_prove_that_nothing_was_done() {
    let retry = RetryTool::new().with_max_attempts(10).allow_repeated_effects(["order"]);
    let server = (retry, BreakerTool::new()).layer(server());
    let answer = call(&server, "order", down()).await;
    assert!(is_refused(&answer) && !outcome::failure(&answer).expect("a failure").is_not_executed());
    let answer = call(&server, "order", down()).await;
    assert!(is_refused(&answer) && outcome::failure(&answer).expect("a failure").is_not_executed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_frees_the_key_of_its_call() {
    let script = server();
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["order"]);
    let server = (keys, BreakerTool::new()).layer(script.clone());
    let args = |key: u32, fail: bool| {
        let mut args = json!({ "idempotency_key": format!("7c9e6679-7425-40de-944b-{key:012}") });
        if fail {
            args["fail"] = json!("unavailable");
        }
        args
    };
    for key in 0..5 {
        let _ = call(&server, "order", args(key, true)).await;
    }
    assert!(is_refused(&call(&server, "order", args(7, false)).await));
    advance(PAUSE).await;
    let answer = call(&server, "order", args(7, false)).await.expect("an answer");
    assert_eq!(answer.first_text(), Some("done"), "the same key");
    assert_eq!(script.calls("order"), 6);
}
