//! Calls whose outcome is unknown are not made again until a person resolves them.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::testing::Token;

fn start(server: &impl McpHandler, key: &'static str) -> JoinHandle<McpResult<ToolResult>> {
    let server = server.clone();
    tokio::spawn(async move { send(&server, key).await })
}

#[tokio::test(start_paused = true)]
async fn a_running_call_whose_caller_leaves_completes_and_its_answer_is_recorded() {
    let (post, go) = held_post();
    let server = memory().layer(post.clone());
    let call = start(&server, "k");
    settle().await;
    call.abort();
    let again = start(&server, "k");
    tokio::time::sleep(secs(1)).await;
    go.notify_one();
    let answer = again.await.unwrap();
    assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("replayed")));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_is_ambiguous_at_once() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let server = memory().layer(post.clone());
    send(&server, "k").await.unwrap();
    let asked = tokio::time::Instant::now();
    let answer = send(&server, "k").await;
    assert!(is_ambiguous(&answer));
    assert_eq!(asked.elapsed(), Duration::ZERO, "its lease is not waited for");
    assert_eq!(kind(&answer), Some(ErrorKind::Internal));
    assert!(text(&answer).contains("it may or may not have taken effect"), "{}", text(&answer));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panicked_is_ambiguous() {
    let post = ScriptedServer::new("post").with_plain("send", |call| async move {
        assert!(call.number > 1, "the first one is lost");
        Ok(sent(call.number))
    });
    let server = memory().layer(post.clone());
    assert!(start(&server, "k").await.unwrap_err().is_panic());
    settle().await;
    assert!(is_ambiguous(&send(&server, "k").await));
    assert_eq!(post.calls("send"), 1);
    assert_eq!(text(&send(&server, "another").await), "sent 2");
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_an_unknown_outcome_is_returned_marked_and_its_key_is_ambiguous() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let server = memory().layer(post.clone());
    let failed = send(&server, "k").await;
    assert_eq!((text(&failed), kind(&failed)), ("no answer".into(), Some(ErrorKind::Timeout)));
    assert_eq!(told(&failed), "ambiguous");
    for _ in 0..3 {
        assert!(is_ambiguous(&send(&server, "k").await));
        tokio::time::advance(secs(100_000)).await;
    }
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_call_that_is_cancelled_completes_and_its_answer_is_recorded() {
    let (post, go) = held_post();
    let server = memory().layer(post.clone());
    let token = Token::default();
    let call = tokio::spawn({
        let (server, ctx) = (server.clone(), token.ctx());
        async move { send_as(&server, "k", &ctx).await }
    });
    settle().await;
    token.cancel();
    tokio::time::sleep(secs(1)).await;
    go.notify_one();
    assert_eq!(text(&call.await.unwrap()), "sent 1");
    assert_eq!(told(&send(&server, "k").await), "replayed");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_is_cancelled_stops_waiting_and_changes_nothing() {
    let (post, go) = held_post();
    let server = memory().layer(post.clone());
    let first = start(&server, "k");
    settle().await;
    let token = Token::default();
    let ctx = token.ctx();
    let asked = tokio::time::Instant::now();
    let cancel = async {
        tokio::time::sleep(secs(1)).await;
        token.cancel();
    };
    let (duplicate, ()) = tokio::join!(send_as(&server, "k", &ctx), cancel);
    assert_eq!(kind(&duplicate), Some(ErrorKind::Cancelled));
    assert!(asked.elapsed() <= secs(1) + Duration::from_millis(50));
    go.notify_one();
    assert_eq!(text(&first.await.unwrap()), "sent 1");
    // A call that was cancelled before it began does not begin.
    assert_eq!(kind(&send_as(&server, "another", &ctx).await), Some(ErrorKind::Cancelled));
    go.notify_one();
    assert_eq!(text(&send(&server, "another").await), "sent 2");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_took_effect_is_resolved_with_its_result() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let layer = memory();
    let handle = layer.handle();
    let server = layer.layer(post.clone());
    let ada = RequestContext::new().with_user_id("ada");
    send_as(&server, "k", &ada).await.unwrap();
    let found = Resolution::Done(ToolResult::text("sent, says the upstream"));
    handle.resolve(&ada, "send", "k", found).await.unwrap();
    let answer = send_as(&server, "k", &ada).await;
    assert_eq!((text(&answer), told(&answer)), ("sent, says the upstream".into(), json!("replayed")));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_took_no_effect_is_made_again_by_the_next_one() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let layer = memory();
    let handle = layer.handle();
    let server = layer.layer(post.clone());
    send(&server, "k").await.unwrap();
    handle.resolve(&RequestContext::new(), "send", "k", Resolution::NotDone).await.unwrap();
    assert_eq!(post.calls("send"), 1, "resolving makes no call");
    assert_eq!(text(&send(&server, "k").await), "sent 2");
    assert_eq!(told(&send(&server, "k").await), "replayed");
}

#[tokio::test(start_paused = true)]
async fn only_ambiguous_calls_are_resolved() {
    let (post, go) = held_post();
    let layer = memory();
    let handle = layer.handle();
    let nobody = RequestContext::new();
    let resolve = |tool, key| handle.resolve(&nobody, tool, key, Resolution::NotDone);
    assert!(matches!(resolve("send", "k").await, Err(ResolveError::NotLayered)));
    let server = layer.layer(post);
    assert!(matches!(resolve("sned", "k").await, Err(ResolveError::UnknownTool)));
    assert!(matches!(resolve("send", "no key").await, Err(ResolveError::InvalidKey)));
    assert!(matches!(resolve("send", "k").await, Err(ResolveError::UnknownCall)));
    let call = start(&server, "k");
    settle().await;
    assert!(matches!(resolve("send", "k").await, Err(ResolveError::Running)));
    go.notify_one();
    call.await.unwrap().unwrap();
    assert!(matches!(resolve("send", "k").await, Err(ResolveError::Answered)));
    let ada = RequestContext::new().with_user_id("ada");
    let of_another = handle.resolve(&ada, "send", "k", Resolution::NotDone).await;
    assert!(matches!(of_another, Err(ResolveError::UnknownCall)));
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_call_is_made_again_if_the_setting_allows_it() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let server = memory().run_again_when_ambiguous().layer(post.clone());
    assert_eq!(kind(&send(&server, "k").await), Some(ErrorKind::Timeout));
    assert_eq!(text(&send(&server, "k").await), "sent 2");
    assert_eq!(told(&send(&server, "k").await), "replayed");
    let args = json!({"to": "bob", "idempotency_key": "k"});
    assert_eq!(told(&server.call_tool("send", args, &RequestContext::new()).await), "key_reused");
}

#[tokio::test(start_paused = true)]
async fn a_running_call_is_not_made_again_even_if_ambiguous_calls_are() {
    let (post, go) = held_post();
    let server = memory().run_again_when_ambiguous().with_wait(Duration::ZERO).layer(post.clone());
    let first = start(&server, "k");
    for _ in 0..20 {
        tokio::time::sleep(secs(10)).await;
        assert_eq!(told(&send(&server, "k").await), "in_progress");
    }
    go.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(post.calls("send"), 1);
}

/// A replica whose requests do not reach the backend: its leases are not renewed.
#[derive(Clone)]
pub(super) struct Unheard {
    pub(super) backend: MemoryBackend,
    pub(super) renews: Arc<AtomicBool>,
}

#[async_trait]
impl Backend for Unheard {
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        self.backend.claim(claim).await
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        match self.renews.load(Ordering::SeqCst) {
            true => self.backend.renew(owner, lease).await,
            false => Err(BackendError::unavailable("not heard")),
        }
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        self.backend.complete(owner, record, ttl).await
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        self.backend.release(owner).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        self.backend.abandon(owner).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        self.backend.resolve(id, record, ttl).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_lease_expired_is_ambiguous_and_its_late_answer_is_recorded() {
    let (post, go) = held_post();
    let unheard = Unheard { backend: MemoryBackend::new(), renews: Arc::default() };
    let server = layer(unheard).layer(post.clone());
    let first = start(&server, "k");
    tokio::time::sleep(secs(29)).await;
    // It waits, and the lease ends meanwhile.
    assert!(is_ambiguous(&send(&server, "k").await));
    go.notify_one();
    assert_eq!(told(&first.await.unwrap()), Value::Null);
    assert_eq!(told(&send(&server, "k").await), "replayed", "it did happen, and is known to have");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_owner_cannot_overwrite_the_claim_that_replaced_its_own() {
    for by_policy in [false, true] {
        let (post, go) = held_post();
        let unheard = Unheard { backend: MemoryBackend::new(), renews: Arc::default() };
        let layer = layer(unheard.clone());
        let layer = if by_policy { layer.run_again_when_ambiguous() } else { layer };
        let handle = layer.handle();
        let server = layer.layer(post.clone());
        let late = start(&server, "k");
        tokio::time::sleep(secs(31)).await;
        if !by_policy {
            handle.resolve(&RequestContext::new(), "send", "k", Resolution::NotDone).await.unwrap();
        }
        let second = start(&server, "k");
        settle().await;
        assert_eq!(post.calls("send"), 2, "the second runs while the first does");
        // They are released in the order of their arrival: the late one ends first, while the other runs.
        go.notify_one();
        let answer = late.await.unwrap();
        assert_eq!((text(&answer), told(&answer)), ("sent 1".into(), json!("not_recorded")), "its own answer is true");
        unheard.renews.store(true, Ordering::SeqCst);
        go.notify_one();
        assert_eq!(told(&second.await.unwrap()), Value::Null);
        assert_eq!(text(&send(&server, "k").await), "sent 2");
    }
}
