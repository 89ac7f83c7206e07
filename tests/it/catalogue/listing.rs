//! A listing that fails or hangs, or whose callers leave.

use std::sync::mpsc;
use std::time::Duration;

use mcp_patterns::layer;
use tokio::time::advance;
use turbomcp_core::Cancellable;

use super::*;

const UNAVAILABLE: Result<String, Option<ErrorKind>> = Err(Some(ErrorKind::Unavailable));

/// A listing for callers that fails until the test repairs it.
fn fails() -> (Catalogue, Arc<AtomicUsize>) {
    let failures = Arc::new(AtomicUsize::new(usize::MAX));
    let left = Arc::clone(&failures);
    let catalogue = Catalogue::new(move |ctx| {
        assert!(ctx.is_none() || left.load(Ordering::SeqCst) == 0, "the upstream is away");
        if ctx.is_some() { vec![tool("ping"), with_arguments("send", &["to"])] } else { vec![tool("ping")] }
    });
    (catalogue, failures)
}

#[tokio::test(start_paused = true)]
async fn while_the_listing_panics_a_protecting_layer_is_unavailable_and_calls_no_tool() {
    let (script, failures) = fails();
    let server = ValidatedTool::new().layer(script.clone());
    for _ in 0..3 {
        assert_eq!(call(&server, "send", json!({}), &user("ada")).await, UNAVAILABLE);
    }
    assert_eq!((script.calls("send"), script.listings()), (0, 2), "it is not tried again at once");
    failures.store(0, Ordering::SeqCst);
    advance(Duration::from_secs(1)).await;
    assert!(call(&server, "send", json!({"to": "Bob"}), &user("ada")).await.is_ok());
}

#[tokio::test]
async fn while_the_listing_panics_each_protecting_layer_refuses_and_the_others_pass_on() {
    let (script, _) = fails();
    let idempotent = || IdempotentTool::new(MemoryBackend::new()).every_write();
    assert_eq!(call(&idempotent().layer(script.clone()), "send", json!({}), &nobody()).await, UNAVAILABLE);
    let allowed = idempotent().allow_unlisted_tools().layer(script.clone());
    assert_eq!(call(&allowed, "send", json!({}), &nobody()).await, UNAVAILABLE, "it may be listed");
    let transactional = TransactionalTool::new(pool().await).every_write().layer(script.clone());
    assert_eq!(call(&transactional, "send", json!({}), &nobody()).await, UNAVAILABLE);
    assert_eq!(script.calls("send"), 0);
    let server = (layer(Some(CachedTool::new())), RetryTool::new(), SessionStore::in_memory().when(|_| true));
    assert_eq!(call(&server.layer(script.clone()), "send", json!({}), &nobody()).await.as_deref(), Ok("1 {}"));
}

/// A listing for callers that hangs until the test releases it.
fn hangs() -> (Catalogue, mpsc::Sender<()>) {
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let catalogue = Catalogue::new(move |ctx| {
        if ctx.is_some() {
            let _ = wait.lock().expect("no panic").recv();
            return vec![with_arguments("send", &["to"])];
        }
        vec![tool("ping")]
    });
    (catalogue, go_on)
}

/// Waits until the server got this many requests for a listing.
async fn listed(script: &Catalogue, listings: usize) {
    while script.listings() < listings {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_hanging_listing_until_its_deadline_and_the_late_listing_counts() {
    let (script, go_on) = hangs();
    let server = ValidatedTool::new().layer(script.clone());
    let first = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "send", json!({}), &user("ada")).await }
    });
    listed(&script, 2).await;
    assert!(!first.is_finished());
    advance(Duration::from_secs(5)).await;
    assert_eq!(first.await.expect("it has ended"), UNAVAILABLE);
    // A later caller does not wait for it again.
    assert_eq!(call(&server, "send", json!({}), &user("ada")).await, UNAVAILABLE);
    assert_eq!(script.listings(), 2, "one at a time for each caller");
    go_on.send(()).expect("it waits");
    loop {
        match call(&server, "send", json!({"to": "Bob"}), &user("ada")).await {
            Ok(sent) => break assert_eq!(sent, r#"1 {"to":"Bob"}"#),
            refused => assert_eq!(refused, UNAVAILABLE),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(script.listings(), 2);
}

#[derive(Debug, Default)]
struct Token(std::sync::atomic::AtomicBool);

impl Cancellable for Token {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_ends_its_own_wait_and_no_other() {
    let (script, go_on) = hangs();
    let server = ValidatedTool::new().layer(script.clone());
    let token = Arc::new(Token::default());
    let of = |ctx: RequestContext| {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "send", json!({"to": "Bob"}), &ctx).await })
    };
    let dropped = of(user("ada"));
    listed(&script, 2).await;
    let (cancelled, stays) = (of(user("ada").with_cancellation_token(token.clone())), of(user("ada")));
    tokio::task::yield_now().await;
    dropped.abort();
    token.0.store(true, Ordering::SeqCst);
    advance(Duration::from_millis(50)).await;
    assert_eq!(cancelled.await.expect("it has ended"), UNAVAILABLE);
    go_on.send(()).expect("it waits");
    assert!(stays.await.expect("it has ended").is_ok());
    assert_eq!((script.listings(), script.calls("send")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn hanging_listings_of_some_callers_leave_look_ups_for_the_others() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let script = Catalogue::new(move |ctx| {
        if ctx.is_some_and(|ctx| ctx.subject().is_some_and(|subject| subject.starts_with("slow"))) {
            let _ = wait.lock().expect("no panic").recv();
        }
        if ctx.is_some() { vec![tool("send")] } else { Vec::new() }
    });
    let server = IdempotentTool::new(MemoryBackend::new()).every_write().layer(script.clone());
    let slow: Vec<_> = (0..15)
        .map(|number| {
            let (server, ctx) = (server.clone(), user(&format!("slow {number}")));
            tokio::spawn(async move { call(&server, "send", json!({}), &ctx).await })
        })
        .collect();
    listed(&script, 16).await;
    assert!(call(&server, "send", json!({}), &user("ada")).await.is_ok());
    drop(go_on);
    for call in slow {
        assert!(call.await.expect("it has ended").is_ok());
    }
}
