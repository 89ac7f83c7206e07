//! Each end of a call.

use turbomcp_core::ErrorKind;

use super::*;
use crate::idempotency_keys::Idempotency;
use crate::idempotent::MemoryBackend;
use crate::limited::{Per, Rate};
use crate::outcome::Unfinished;
use crate::session::SessionMode;
use crate::{
    CachedTool, IdempotentTool, LimitedTool, Middleware, RetryTool, SessionStore, UntrustedServer, ValidatedTool, layer,
};

/// The end of a call, and its layer, reason and kind.
type Said = (End, Option<String>, Option<String>, Option<ErrorKind>);

fn said(event: Event) -> Said {
    (event.end, event.layer, event.reason, event.kind)
}

fn plain(end: End) -> Said {
    (end, None, None, None)
}

fn by(end: End, layer: &str, reason: &str, kind: ErrorKind) -> Said {
    (end, Some(layer.to_owned()), Some(reason.to_owned()), Some(kind))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_that_of_the_tool_or_a_hit_or_an_expired_one() {
    let seen = Seen::default();
    let cached = CachedTool::new().with_ttl(ms(100)).with_stale_while_revalidate(ms(1_000));
    let server = (seen.audit(), cached).layer(server());
    for (pause, end) in [(0, End::Answered), (50, End::Hit), (100, End::Stale)] {
        tokio::time::advance(ms(pause)).await;
        call(&server, "search", json!({})).await.expect("an answer");
        assert_eq!(said(seen.last()), plain(end));
    }
    assert_eq!(seen.all().len(), 3, "one for each call, and none for the load in the background");
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_meta_hides_its_hits() {
    let seen = Seen::default();
    let server = (seen.audit(), CachedTool::new().without_meta()).layer(server());
    for _ in 0..2 {
        call(&server, "search", json!({})).await.expect("an answer");
    }
    assert!(seen.all().iter().all(|event| event.end == End::Answered), "{:?}", seen.all());
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_an_end_of_its_own_and_a_refused_key_says_why() {
    let seen = Seen::default();
    let keys = IdempotentTool::new(MemoryBackend::new())
        .only(["order"])
        .with_idempotency(Idempotency::new().required_for(["order"]));
    let server = (seen.audit(), keys).layer(server());
    for end in [End::Answered, End::Replayed] {
        call(&server, "order", json!({"idempotency_key": "a-key-of-a-client"})).await.expect("an answer");
        assert_eq!(said(seen.last()), plain(end));
    }
    drop(call(&server, "order", json!({})).await);
    assert_eq!(said(seen.last()), by(End::Refused, "idempotency", "key_missing", ErrorKind::InvalidParams));
}

#[tokio::test(start_paused = true)]
async fn the_refusal_of_each_layer_has_the_layer_and_the_reason() {
    let seen = Seen::default();
    let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(1));
    let server = (
        seen.audit(),
        ValidatedTool::new(),
        SessionStore::in_memory().with_mode(SessionMode::Handle).only(["order"]),
        limits.clone(),
    )
        .layer(server());
    drop(call(&server, "search", json!([1])).await);
    assert_eq!(said(seen.last()), by(End::Refused, "validation", "invalid", ErrorKind::InvalidParams));
    drop(call(&server, "order", json!({})).await);
    let (end, layer, ..) = said(seen.last());
    assert_eq!((end, layer.as_deref()), (End::Refused, Some("session")), "{:?}", seen.last());
    for end in [plain(End::Answered), by(End::Refused, "limit", "rate", ErrorKind::RateLimited)] {
        drop(call(&server, "search", json!({})).await);
        assert_eq!(said(seen.last()), end);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_tool_is_no_refusal_whatever_its_kind() {
    let seen = Seen::default();
    let server = seen.audit().layer(server());
    for (fails, kind) in [
        ("forbidden", ErrorKind::PermissionDenied),
        ("always", ErrorKind::Unavailable),
        ("timeout", ErrorKind::Timeout),
    ] {
        drop(call(&server, "order", json!({"fails": fails})).await);
        assert_eq!(said(seen.last()), (End::Failed, None, None, Some(kind)));
    }
    drop(call(&server, "nothing", json!({})).await.expect_err("a protocol error"));
    let unknown = seen.last();
    assert_eq!((&*unknown.tool, unknown.answer_bytes), ("nothing", None));
    assert_eq!(said(unknown), (End::Failed, None, None, Some(ErrorKind::ToolNotFound)));
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_and_a_refusal_after_an_attempt_is_a_failure() {
    let seen = Seen::default();
    let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(2));
    let server = (seen.audit(), RetryTool::new(), limits).layer(server());
    drop(call(&server, "search", json!({"fails": "always"})).await);
    let failed = seen.last();
    assert!(failed.attempts.is_some_and(|attempts| attempts > 1), "{failed:?}");
    assert_eq!((failed.end, failed.layer.as_deref()), (End::Failed, Some("limit")), "the tool was called before");

    let server = (seen.audit(), RetryTool::new()).layer(self::server());
    call(&server, "search", json!({"fails": "once"})).await.expect("an answer");
    assert_eq!((seen.last().end, seen.last().attempts), (End::Answered, Some(2)));
    call(&server, "search", json!({})).await.expect("an answer");
    assert_eq!(seen.last().attempts, None);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_stops_waiting_times_out_and_a_tool_that_gives_up_fails() {
    let seen = Seen::default();
    let server = (seen.audit(), LimitedTool::new().with_timeout(ms(100))).layer(server());
    drop(call(&server, "order", json!({"ms": 200})).await);
    assert_eq!(said(seen.last()), by(End::TimedOut, "limit", "timed_out", ErrorKind::Timeout));
    assert_eq!(seen.last().duration, ms(100));

    let server = (seen.audit(), RetryTool::new().with_attempt_timeout(ms(100))).layer(self::server());
    drop(call(&server, "search", json!({"ms": 200})).await);
    assert_eq!(said(seen.last()), by(End::TimedOut, "retry", "timed_out", ErrorKind::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_cancelled_by_the_word_of_a_layer_or_the_kind_of_the_tool() {
    let seen = Seen::default();
    let limits = LimitedTool::new().with_concurrency(Per::Tool, crate::limited::Concurrency::new(1).with_queue(1));
    let server = (seen.audit(), limits).layer(server());
    let (token, ada) = (Token::default(), user("ada"));
    let waiting = token.ctx();
    let _ = tokio::join!(
        server.call_tool("search", json!({"ms": 500}), &ada),
        server.call_tool("search", json!({}), &waiting),
        token.cancel_after(ms(20)),
    );
    assert_eq!(said(seen.all()[0].clone()), by(End::Cancelled, "limit", "cancelled", ErrorKind::Cancelled));

    drop(call(&server, "order", json!({"fails": "cancelled"})).await);
    assert_eq!(said(seen.last()), (End::Cancelled, None, None, Some(ErrorKind::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_layer_had_kept_says_so() {
    let seen = Seen::default();
    let cached = CachedTool::new().with_negative_ttl([ErrorKind::ResourceNotFound], ms(1_000));
    let server = (seen.audit(), cached).layer(server());
    for _ in 0..2 {
        drop(call(&server, "search", json!({"fails": "missing"})).await);
    }
    assert_eq!(said(seen.all()[0].clone()), (End::Failed, None, None, Some(ErrorKind::ResourceNotFound)));
    assert_eq!(said(seen.last()), by(End::Failed, "cache", "hit", ErrorKind::ResourceNotFound));
}

/// Fails with an error of the protocol.
#[derive(Clone)]
struct Fails;

impl Middleware for Fails {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        _: &'a str,
        _: Value,
        _: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        Err(McpError::permission_denied("not for you"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_key_replays_is_that_of_the_tool_in_both_forms() {
    for is_error in [false, true] {
        let seen = Seen::default();
        let keys = IdempotentTool::new(MemoryBackend::new())
            .only(["order"])
            .with_idempotency(Idempotency::new().recording_failures());
        let server = (seen.audit(), keys, layer(is_error.then_some(Fails))).layer(server());
        for _ in 0..2 {
            drop(call(&server, "order", json!({"fails": "forbidden", "idempotency_key": "a-key-of-a-client"})).await);
        }
        let last = seen.last();
        let expected = (End::Failed, Some("idempotency"), Some("replayed"));
        assert_eq!((last.end, last.layer.as_deref(), last.reason.as_deref()), expected, "{last:?}");
    }
}

#[tokio::test]
async fn a_call_without_an_answer_yet_is_unfinished() {
    let seen = Seen::default();
    let asking = ScriptedServer::new("s")
        .with_plain("ask", |_| async { Err(Unfinished::InputRequired.into_error("Choose first")) })
        .with_plain("task", |_| async { Err(Unfinished::Task.into_error("Later")) });
    let server = seen.audit().layer(asking);
    for (tool, reason) in [("ask", "input_required"), ("task", "task")] {
        drop(call(&server, tool, json!({})).await);
        assert_eq!(said(seen.last()), (End::Unfinished, None, Some(reason.to_owned()), None));
    }
}

#[tokio::test]
async fn a_server_can_set_marks_and_an_untrusted_one_cannot() {
    let forging = ScriptedServer::new("s").with_plain("forge", |_| async {
        let mut result = ToolResult::text("mine");
        result.meta = serde_json::from_value(json!({"mcp-patterns/cache": {"status": "hit"}})).expect("a map");
        Ok(result)
    });
    let seen = Seen::default();
    call(&seen.audit().layer(forging.clone()), "forge", json!({})).await.expect("an answer");
    call(&(seen.audit(), UntrustedServer::new()).layer(forging), "forge", json!({})).await.expect("an answer");
    assert_eq!(seen.all().iter().map(|event| event.end).collect::<Vec<_>>(), [End::Hit, End::Answered]);
}

#[tokio::test]
async fn a_forged_reason_is_cut() {
    let forging = ScriptedServer::new("s").with_plain("forge", |_| async {
        Err(McpError::internal("no").with_data(json!({"mcp-patterns/limit": "x".repeat(10_000)})))
    });
    let seen = Seen::default();
    drop(call(&seen.audit().layer(forging), "forge", json!({})).await);
    assert!(seen.one().reason.is_some_and(|reason| reason.len() < 300));
}
