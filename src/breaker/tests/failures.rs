//! Which results open a breaker.

use std::sync::Arc;

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

use super::*;
use crate::idempotent::MemoryBackend;
use crate::limited::{Concurrency, Per, Rate};
use crate::outcome::Unfinished;
use crate::{IdempotentTool, LimitedTool, RetryTool};

/// Whether ten calls that end in this way open the breaker.
async fn opens(end: impl Fn() -> McpResult<ToolResult> + Send + Sync + 'static, layer: BreakerTool) -> bool {
    let end = Arc::new(end);
    let script = ScriptedServer::new("shop").with_read_only("search", move |_| {
        let end = Arc::clone(&end);
        async move { end() }
    });
    let handle = layer.handle();
    let server = layer.layer(script);
    for _ in 0..10 {
        let _ = call(&server, "search", json!({})).await;
    }
    state(&handle, "search") == State::Open
}

/// Each kind, and whether its failures open a breaker: the temporary ones do.
const KINDS: [(ErrorKind, bool); 26] = [
    (ErrorKind::Timeout, true),
    (ErrorKind::Unavailable, true),
    (ErrorKind::Transport, true),
    (ErrorKind::ExternalService, true),
    (ErrorKind::RateLimited, true),
    (ErrorKind::ServerOverloaded, true),
    (ErrorKind::Internal, false),
    (ErrorKind::ToolNotFound, false),
    (ErrorKind::ToolExecutionFailed, false),
    (ErrorKind::PromptNotFound, false),
    (ErrorKind::ResourceNotFound, false),
    (ErrorKind::ResourceAccessDenied, false),
    (ErrorKind::CapabilityNotSupported, false),
    (ErrorKind::ProtocolVersionMismatch, false),
    (ErrorKind::UrlElicitationRequired, false),
    (ErrorKind::UserRejected, false),
    (ErrorKind::ParseError, false),
    (ErrorKind::InvalidRequest, false),
    (ErrorKind::MethodNotFound, false),
    (ErrorKind::InvalidParams, false),
    (ErrorKind::Authentication, false),
    (ErrorKind::PermissionDenied, false),
    (ErrorKind::Configuration, false),
    (ErrorKind::Cancelled, false),
    (ErrorKind::Security, false),
    (ErrorKind::Serialization, false),
];

#[tokio::test(start_paused = true)]
async fn failures_of_these_kinds_open_a_breaker_in_either_form_and_others_do_not() {
    for (kind, expected) in KINDS {
        let as_result = move || Ok(McpError::new(kind, "it did not work").to_tool_result());
        assert_eq!(opens(as_result, BreakerTool::new()).await, expected, "{kind:?} as a result");
        // The script makes results of errors; a handler of another kind does not.
        let handle_err = BreakerTool::new();
        let handle = handle_err.handle();
        let server = handle_err.layer(crate::layer(Protocol(kind)).layer(server()));
        for _ in 0..10 {
            let _ = call(&server, "search", json!({})).await;
        }
        assert_eq!(state(&handle, "search") == State::Open, expected, "{kind:?} as an error of the protocol");
    }
}

/// Fails with an error of the protocol.
#[derive(Clone)]
struct Protocol(ErrorKind);

impl crate::Middleware for Protocol {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        _: &'a str,
        _: Value,
        _: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        Err(McpError::new(self.0, "it did not work"))
    }
}

#[tokio::test(start_paused = true)]
async fn what_speaks_about_the_call_alone_opens_nothing() {
    assert!(!opens(|| Ok(ToolResult::error("No such book")), BreakerTool::new()).await, "a failure without a kind");
    for unfinished in [Unfinished::InputRequired, Unfinished::Task] {
        assert!(!opens(move || Err(unfinished.into_error("Later")), BreakerTool::new()).await, "{unfinished:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_predicate_replaces_the_kinds_but_for_refusals_of_layers() {
    let internal = || BreakerTool::new().failure_if(|failure| failure.kind() == Some(ErrorKind::Internal));
    assert!(opens(|| Err(McpError::internal("a bug")), internal()).await);
    assert!(!opens(|| Err(McpError::unavailable("down")), internal()).await);
    let everything = || BreakerTool::new().failure_if(|_| true);
    assert!(opens(|| Ok(ToolResult::error("No such book")), everything()).await);
    assert!(!opens(|| Err(Unfinished::Task.into_error("Later")), everything()).await);
    let refusing = || Err(outcome::marked(outcome::LIMIT, "rate", McpError::rate_limited("too often")));
    assert!(!opens(refusing, everything()).await);
}

/// The marks of the layers, and whether such calls open a breaker although their kind is temporary.
const MARKS: [(&str, &str, bool); 16] = [
    (outcome::LIMIT, "rate", false),
    (outcome::LIMIT, "busy", false),
    (outcome::LIMIT, "waited", false),
    (outcome::LIMIT, "cancelled", false),
    (outcome::LIMIT, "timed_out", true),
    (BREAKER, "open", false),
    (BREAKER, "half_open", false),
    (BREAKER, "forced_open", false),
    (outcome::BATCH, "overloaded", false),
    (outcome::BATCH, "closed", false),
    (outcome::BATCH, "timed_out", true),
    (outcome::RETRY, "timed_out", true),
    (outcome::CATALOGUE, "unavailable", false),
    ("mcp-patterns/idempotency", "in_progress", false),
    ("mcp-patterns/idempotency", "overloaded", false),
    ("mcp-patterns/idempotency", "unavailable", true),
];

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_layer_decides_before_the_kind() {
    for (layer, word, expected) in MARKS {
        let marked = move || Ok(outcome::marked(layer, word, McpError::unavailable("no")).to_tool_result());
        assert_eq!(opens(marked, BreakerTool::new()).await, expected, "{layer}: {word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_layer_further_in_refuses_says_nothing_and_one_that_it_ends_does() {
    let breaker = || BreakerTool::new().only(["search"]);
    let limits = |limits: LimitedTool| async move {
        let layer = breaker();
        let handle = layer.handle();
        let server = (layer, limits).layer(server());
        let calls = (0..20).map(|_| call(&server, "search", json!({ "ms": 200 })));
        futures_util::future::join_all(calls).await;
        state(&handle, "search")
    };
    let one = Concurrency::new(1);
    assert_eq!(limits(LimitedTool::new().with_rate(Per::Tool, Rate::per_hour(1))).await, State::Closed, "rate");
    assert_eq!(limits(LimitedTool::new().with_concurrency(Per::Tool, one)).await, State::Closed, "busy");
    let waiting = one.with_queue(100).with_max_wait(ms(10));
    assert_eq!(limits(LimitedTool::new().with_concurrency(Per::Tool, waiting)).await, State::Closed, "waited");
    assert_eq!(limits(LimitedTool::new().with_timeout(ms(100))).await, State::Open, "timed out");

    // An open breaker inside: the outer one stays closed.
    let (outer, inner) = (breaker().with_min_calls(20).with_failure_rate(0.3), breaker());
    let [outside, inside] = [&outer, &inner].map(BreakerTool::handle);
    let server = (outer, inner).layer(server());
    for _ in 0..40 {
        let _ = call(&server, "search", down()).await;
    }
    assert_eq!([&outside, &inside].map(|handle| state(handle, "search")), [State::Closed, State::Open]);
    assert_eq!(outside.breaker("search").expect("a breaker").calls, 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_key_is_in_use_says_nothing() {
    let breaker = BreakerTool::new().only(["order"]);
    let handle = breaker.handle();
    let keys = IdempotentTool::new(MemoryBackend::new()).only(["order"]).with_wait(ms(1));
    let server = (breaker, keys).layer(server());
    let args = || json!({ "idempotency_key": "7c9e6679-7425-40de-944b-000000000001", "ms": 1_000 });
    let ends = futures_util::future::join_all((0..20).map(|_| call(&server, "order", args()))).await;
    let kinds = |kind| ends.iter().filter(|end| outcome::failure(end).and_then(|end| end.kind()) == Some(kind)).count();
    assert_eq!(kinds(ErrorKind::Unavailable), 19, "{ends:?}");
    let status = handle.breaker("order").expect("a breaker");
    assert_eq!((status.state, status.calls), (State::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_and_one_whose_caller_leaves_say_nothing() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    for _ in 0..10 {
        assert!(tokio::time::timeout(ms(10), call(&server, "search", json!({ "hang": true }))).await.is_err());
        let token = Token::default();
        token.cancel();
        assert!(!is_refused(&server.call_tool("search", down(), &token.ctx()).await));
    }
    assert_eq!(handle.breaker("search").expect("a breaker").calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_tool_says_nothing_and_gives_its_place_back() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = breaker.layer(server());
    let panics =
        async || AssertUnwindSafe(call(&server, "search", json!({ "panic": 1 }))).catch_unwind().await.is_err();
    for _ in 0..10 {
        assert!(panics().await);
    }
    assert_eq!(handle.breaker("search").expect("a breaker").calls, 0);
    open(&server).await;
    advance(PAUSE).await;
    for _ in 0..10 {
        assert!(panics().await, "each is a probe");
    }
    assert!(call(&server, "search", json!({})).await.is_ok_and(|answer| !answer.is_error()));
    assert_eq!(state(&handle, "search"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_retries_further_in_have_given_up_counts_once() {
    let breaker = BreakerTool::new();
    let handle = breaker.handle();
    let server = (breaker, RetryTool::new().with_max_attempts(2)).layer(server());
    for _ in 0..4 {
        let _ = call(&server, "search", down()).await;
    }
    assert_eq!(handle.breaker("search").expect("a breaker").failures, 4);
}
