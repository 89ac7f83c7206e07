//! The outcome of a call with a key while nothing fails.

use futures_util::future::join_all;

use super::*;
use crate::idempotency_keys::KeySource;

#[tokio::test(start_paused = true)]
async fn a_repeated_call_gets_the_first_answer_marked_as_replayed() {
    let post = post();
    let server = memory().layer(post.clone());
    let first = send(&server, "k").await;
    assert_eq!((text(&first), told(&first)), ("sent 1".into(), Value::Null));
    let again = send(&server, "k").await;
    assert_eq!(told(&again), "replayed");
    assert_eq!(unmarked(again), unmarked(first));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_meta_a_repeated_call_gets_the_first_answer_without_a_mark() {
    let post = post();
    let server = memory().without_meta().layer(post.clone());
    for _ in 0..2 {
        assert_eq!(send(&server, "k").await.unwrap(), sent(1));
    }
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_other_arguments_is_refused() {
    let post = post();
    let server = memory().layer(post.clone());
    send(&server, "k").await.unwrap();
    let args = json!({"to": "bob", "idempotency_key": "k"});
    let other = server.call_tool("send", args, &RequestContext::new()).await;
    assert_eq!((told(&other), kind(&other)), (json!("key_reused"), Some(ErrorKind::InvalidParams)));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_key_runs_each_time() {
    let post = post();
    let server = memory().layer(post.clone());
    for number in 1..=3 {
        let answer = server.call_tool("send", json!({"to": "ada"}), &RequestContext::new()).await.unwrap();
        assert_eq!(answer, sent(number));
    }
}

#[tokio::test(start_paused = true)]
async fn the_tool_sees_no_key() {
    let echo = ScriptedServer::new("post")
        .with_plain("send", |call| async move { Ok(ToolResult::text(call.args.to_string())) });
    let server = memory().layer(echo);
    assert_eq!(text(&send(&server, "k").await), r#"{"to":"ada"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_required_key_that_is_missing_or_malformed_is_refused() {
    let post = post();
    let server = memory().with_idempotency(Idempotency::new().required()).layer(post.clone());
    let missing = server.call_tool("send", json!({"to": "ada"}), &RequestContext::new()).await;
    assert_eq!(kind(&missing), Some(ErrorKind::InvalidParams));
    assert_eq!(kind(&send(&server, "no key, with a blank").await), Some(ErrorKind::InvalidParams));
    assert_eq!(post.calls("send"), 0);
}

#[tokio::test(start_paused = true)]
async fn equal_keys_of_different_users_or_versions_are_different_keys() {
    let (post, backend) = (post(), MemoryBackend::new());
    let server = layer(backend.clone()).layer(post.clone());
    let newer = layer(backend).with_idempotency(Idempotency::new().with_version("2")).layer(post.clone());
    let (ada, bob) = (RequestContext::new().with_user_id("ada"), RequestContext::new().with_user_id("bob"));
    let answers = [send(&server, "k").await, send_as(&server, "k", &ada).await, send_as(&server, "k", &bob).await];
    assert_eq!(answers.each_ref().map(text), ["sent 1", "sent 2", "sent 3"]);
    assert_eq!(text(&send(&newer, "k").await), "sent 4");
    assert_eq!(text(&send_as(&server, "k", &ada).await), "sent 2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_forgotten_after_its_ttl_which_begins_with_the_answer() {
    let post = slow_post();
    let server = memory().with_idempotency(Idempotency::new().with_ttl(secs(60))).layer(post.clone());
    send(&server, "k").await.unwrap();
    tokio::time::advance(secs(59)).await;
    assert_eq!(told(&send(&server, "k").await), "replayed");
    tokio::time::advance(secs(1)).await;
    assert_eq!(text(&send(&server, "k").await), "sent 2");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_waits_for_the_call_that_runs_and_gets_its_answer() {
    let post = slow_post();
    let server = memory().layer(post.clone());
    let answers = join_all((0..100).map(|_| send(&server, "k"))).await;
    assert_eq!(answers.iter().filter(|answer| told(answer) == "replayed").count(), 99);
    for answer in answers {
        assert_eq!(unmarked(answer), sent(1));
    }
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_waits_no_longer_than_its_timeout() {
    let (post, go) = held_post();
    let server = memory().with_wait(secs(3)).layer(post.clone());
    let first = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "k").await }
    });
    settle().await;
    let asked = tokio::time::Instant::now();
    let duplicate = send(&server, "k").await;
    assert_eq!(asked.elapsed(), secs(3));
    let failure = outcome::failure(&duplicate).expect("no answer yet");
    assert_eq!((told(&duplicate), failure.kind()), (json!("in_progress"), Some(ErrorKind::Unavailable)));
    assert_eq!(failure.retry_after(), Some(secs(1)));
    go.notify_one();
    assert_eq!(text(&first.await.unwrap()), "sent 1");
    assert_eq!((text(&send(&server, "k").await), post.calls("send")), ("sent 1".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_a_duplicate_returns_at_once() {
    let (post, _go) = held_post();
    let server = memory().with_wait(Duration::ZERO).layer(post);
    let _first = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "k").await }
    });
    settle().await;
    let asked = tokio::time::Instant::now();
    assert_eq!(told(&send(&server, "k").await), "in_progress");
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_many_leases_counts_as_running() {
    let (post, go) = held_post();
    let server = memory().with_wait(Duration::ZERO).layer(post.clone());
    let first = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "k").await }
    });
    for _ in 0..60 {
        tokio::time::sleep(secs(10)).await;
        assert_eq!(told(&send(&server, "k").await), "in_progress");
    }
    go.notify_one();
    assert_eq!(told(&first.await.unwrap()), Value::Null);
    assert_eq!(told(&send(&server, "k").await), "replayed");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_key_may_be_in_the_metadata_or_a_header_instead_of_the_arguments() {
    let post = post();
    for source in [KeySource::Metadata("op".into()), KeySource::Header("X-Op".into())] {
        let layer = memory().with_idempotency(Idempotency::new().with_source(source.clone()));
        let handle = layer.handle();
        let server = layer.layer(post.clone());
        let mut ctx = RequestContext::new().with_metadata("op", "k");
        ctx.headers.get_or_insert_default().insert("x-op".into(), "k".into());
        let call = || server.call_tool("send", json!({}), &ctx);
        let before = post.calls("send");
        assert_eq!(told(&call().await), Value::Null, "{source:?}");
        assert_eq!(told(&call().await), "replayed", "{source:?}");
        assert_eq!(post.calls("send"), before + 1);
        let resolved = handle.resolve(&RequestContext::new(), "send", "k", Resolution::NotDone).await;
        assert!(matches!(resolved, Err(ResolveError::Answered)), "the handle finds the call: {resolved:?}");
    }
}
