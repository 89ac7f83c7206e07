//! Ambiguous calls that people list and resolve, or that end by themselves.

use super::ambiguous::Unheard;
use super::*;
use crate::RetryTool;
use crate::idempotency_keys::AmbiguousCall;

const HOUR: Duration = Duration::from_secs(3600);

/// An hour until the refusal is final, and two hours until it expires.
fn ending(backend: impl Backend) -> IdempotentTool {
    layer(backend).with_idempotency(Idempotency::new().with_ttl(2 * HOUR).with_final_refusal_after(HOUR))
}

fn lost_post() -> ScriptedServer {
    stumbling_post(McpError::timeout("no answer"))
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_call_ends_in_a_refusal_that_is_final_until_the_ttl_of_its_key() {
    let post = lost_post();
    let tool = ending(MemoryBackend::new());
    let handle = tool.handle();
    let server = tool.layer(post.clone());
    send(&server, "k").await.unwrap();
    tokio::time::advance(HOUR - secs(1)).await;
    assert!(is_ambiguous(&send(&server, "k").await));
    tokio::time::advance(secs(1)).await;
    let refused = send(&server, "k").await;
    assert_eq!((told(&refused), kind(&refused)), (json!("unresolved"), Some(ErrorKind::Internal)));
    assert!(text(&refused).contains("This answer is final"), "{}", text(&refused));
    assert!(!outcome::failure(&refused).unwrap().is_temporary());
    let nobody = RequestContext::new();
    for resolution in [Resolution::NotDone, Resolution::Done(sent(7))] {
        let late = handle.resolve(&nobody, "send", "k", resolution).await;
        assert!(matches!(late, Err(ResolveError::Answered)), "the final answer does not change: {late:?}");
    }
    tokio::time::advance(2 * HOUR - secs(1)).await;
    let again = send(&server, "k").await;
    assert_eq!((text(&again), told(&again)), (text(&refused), json!("replayed")));
    assert_eq!(post.calls("send"), 1);
    tokio::time::advance(secs(1)).await;
    assert_eq!(text(&send(&server, "k").await), "sent 2", "after its ttl every key is a new one");
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_call_that_is_not_repeated_expires() {
    let post = ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::timeout("no answer"))));
    let tool = ending(MemoryBackend::new().with_max_records(6));
    let handle = tool.handle();
    let server = tool.layer(post.clone());
    for key in ["a", "b", "c"] {
        send(&server, key).await.unwrap();
    }
    assert_eq!(kind(&send(&server, "d").await), Some(ErrorKind::ServerOverloaded), "what is ambiguous is kept");
    tokio::time::advance(3 * HOUR - secs(1)).await;
    assert_eq!(kind(&send(&server, "d").await), Some(ErrorKind::ServerOverloaded));
    assert_eq!(handle.ambiguous(None, 10).await.unwrap().calls.len(), 3);
    tokio::time::advance(secs(1)).await;
    assert_eq!(kind(&send(&server, "d").await), Some(ErrorKind::Timeout), "there is room again");
    let left = handle.ambiguous(None, 10).await.unwrap().calls;
    assert_eq!(left.iter().map(|call| call.key.as_str()).collect::<Vec<_>>(), ["d"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_until_the_final_refusal() {
    for late in [false, true] {
        let (post, go) = held_post();
        let backend = MemoryBackend::new();
        // A process that renews nothing.
        let silent = ending(Unheard { backend: backend.clone(), renews: Arc::default() }).layer(post.clone());
        let server = ending(backend).layer(post.clone());
        let first = tokio::spawn(async move { send(&silent, "k").await });
        settle().await;
        tokio::time::advance(secs(31)).await;
        if late {
            tokio::time::advance(HOUR).await;
            assert_eq!(told(&send(&server, "k").await), "unresolved");
        } else {
            assert!(is_ambiguous(&send(&server, "k").await));
        }
        go.notify_one();
        let answer = first.await.unwrap();
        assert_eq!(text(&answer), "sent 1", "its own caller gets the truth");
        let again = send(&server, "k").await;
        assert_eq!(text(&again).contains("final"), late, "{}", text(&again));
        assert_eq!(told(&answer), if late { json!("not_recorded") } else { Value::Null });
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_time_for_the_final_refusal_a_call_stays_ambiguous_and_can_be_resolved() {
    let (post, tool) = (lost_post(), memory());
    let handle = tool.handle();
    let server = tool.layer(post.clone());
    send(&server, "k").await.unwrap();
    tokio::time::advance(100_000 * HOUR).await;
    assert!(is_ambiguous(&send(&server, "k").await));
    handle.resolve(&RequestContext::new(), "send", "k", Resolution::NotDone).await.unwrap();
    assert_eq!(text(&send(&server, "k").await), "sent 2");
}

#[tokio::test(start_paused = true)]
async fn ambiguous_calls_are_listed_by_pages_without_arguments_and_of_this_server_only() {
    let post = ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::timeout("no answer"))));
    let backend = MemoryBackend::new();
    let (tool, other) = (layer(backend.clone()), layer(backend).with_namespace("staging"));
    let (handle, staging) = (tool.handle(), other.handle());
    assert!(matches!(handle.ambiguous(None, 10).await, Err(ResolveError::NotLayered)));
    assert_eq!(handle.caller(&RequestContext::new()), None);
    let (server, other) = (tool.layer(post.clone()), other.layer(post));
    let (ada, bob) = (RequestContext::new().with_user_id("ada"), RequestContext::new().with_user_id("bob"));
    for number in 0..5 {
        send_as(&server, &format!("k{number}"), if number < 3 { &ada } else { &bob }).await.unwrap();
        tokio::time::advance(secs(10)).await;
    }
    send_as(&other, "elsewhere", &ada).await.unwrap();

    let (mut all, mut after): (Vec<AmbiguousCall>, Option<String>) = (Vec::new(), None);
    loop {
        let page = handle.ambiguous(after.as_deref(), 2).await.unwrap();
        assert!(page.calls.len() <= 2);
        all.extend(page.calls);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    for call in &all {
        assert!(call.id.bytes().all(|digit| digit.is_ascii_hexdigit()), "neither key nor caller is in it: {}", call.id);
    }
    let seen: Vec<_> = all.iter().map(|call| (call.tool.as_str(), call.key.as_str(), call.age.as_secs())).collect();
    assert_eq!(
        seen,
        [("send", "k0", 50), ("send", "k1", 40), ("send", "k2", 30), ("send", "k3", 20), ("send", "k4", 10)]
    );
    let (of_ada, of_bob) = (handle.caller(&ada).unwrap(), handle.caller(&bob).unwrap());
    assert_ne!(of_ada, of_bob);
    let callers: Vec<_> = all.iter().map(AmbiguousCall::caller).collect();
    assert_eq!(callers, [&of_ada, &of_ada, &of_ada, &of_bob, &of_bob]);
    let elsewhere = staging.ambiguous(None, 10).await.unwrap().calls;
    assert_eq!(elsewhere.len(), 1);
    assert_ne!(elsewhere[0].caller(), of_ada, "a caller is not known again on another server");

    handle.resolve_listed(&all[0], Resolution::Done(sent(7))).await.unwrap();
    assert_eq!(text(&send_as(&server, "k0", &ada).await), "sent 7");
    let again = handle.resolve_listed(&all[0], Resolution::NotDone).await;
    assert!(matches!(again, Err(ResolveError::Answered)), "{again:?}");
    assert_eq!(handle.ambiguous(None, 0).await.unwrap().calls.len(), 1, "a page has one call at least");
}

/// The cut attempt continues; later attempts wait for it, and nothing is done twice.
#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_around_a_key_does_not_stop_the_call() {
    let post = slow_post();
    let server = (RetryTool::new().with_attempt_timeout(Duration::from_millis(100)), memory()).layer(post.clone());
    let first = send(&server, "k").await;
    assert_eq!(kind(&first), Some(ErrorKind::Timeout));
    assert!(!outcome::failure(&first).unwrap().is_not_executed());
    tokio::time::sleep(secs(2)).await;
    let again = send(&server, "k").await;
    assert_eq!((text(&again), told(&again)), ("sent 1".into(), json!("replayed")));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_a_timed_out_one_gets_its_answer() {
    let post = slow_post();
    let server = (RetryTool::new().with_attempt_timeout(Duration::from_millis(700)), memory()).layer(post.clone());
    let answer = send(&server, "k").await;
    assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("replayed")));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_zero_time_for_the_final_refusal_is_an_invalid_setting() {
    let hasty = memory().with_idempotency(Idempotency::new().with_final_refusal_after(Duration::ZERO));
    let error = hasty.try_layer(post()).unwrap_err();
    assert!(matches!(error, ConfigError::InvalidSetting { setting: "with_final_refusal_after", .. }), "{error:?}");
    // An endless time is accepted.
    let server =
        memory().with_idempotency(Idempotency::new().with_final_refusal_after(Duration::MAX)).layer(lost_post());
    send(&server, "k").await.unwrap();
    tokio::time::advance(HOUR).await;
    assert!(is_ambiguous(&send(&server, "k").await));
}
