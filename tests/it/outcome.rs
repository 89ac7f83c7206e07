//! The meaning of real tools' results, whatever the form of their failures.

use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::outcome::{self, ErrorKind, Unfinished};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{BatchedTool, CachedTool, Layer, RetryTool, boxed};
use serde_json::{Value, json};
use turbomcp::prelude::*;

/// The judgement of [`outcome::failure`] about a failure.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: Option<ErrorKind>,
    message: String,
    data: Option<Value>,
    temporary: bool,
    throttling: bool,
    retry_after: Option<Duration>,
    exhausted: bool,
}

impl Seen {
    /// A failure with only this content.
    fn plain(kind: impl Into<Option<ErrorKind>>, message: &str) -> Self {
        Self {
            kind: kind.into(),
            message: message.to_owned(),
            data: None,
            temporary: false,
            throttling: false,
            retry_after: None,
            exhausted: false,
        }
    }

    #[track_caller]
    fn of(result: &McpResult<ToolResult>) -> Self {
        let failure = outcome::failure(result).unwrap_or_else(|| panic!("a success: {result:?}"));
        Self {
            kind: failure.kind(),
            message: failure.message().to_owned(),
            data: failure.data().cloned(),
            temporary: failure.is_temporary(),
            throttling: failure.is_throttling(),
            retry_after: failure.retry_after(),
            exhausted: failure.is_exhausted(),
        }
    }
}

#[derive(Clone)]
struct Failing;

#[derive(Debug)]
struct OwnError;

impl std::fmt::Display for OwnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an error of its own")
    }
}

#[server(name = "failing", version = "1.0.0")]
impl Failing {
    /// Fails with an error of this kind, and with this data.
    #[tool(idempotent = true)]
    async fn fail(&self, kind: String, data: Option<Value>) -> McpResult<String> {
        let kind = serde_json::from_value(json!(kind)).expect("a kind");
        let error = McpError::new(kind, "it did not work");
        Err(match data {
            Some(data) => error.with_data(data),
            None => error,
        })
    }

    /// Fails with a text.
    #[tool]
    async fn text(&self) -> Result<String, String> {
        Err("a text".to_owned())
    }

    /// Fails with an error of its own.
    #[tool]
    async fn own(&self) -> Result<String, OwnError> {
        Err(OwnError)
    }

    /// Answers an error without a kind.
    #[tool]
    async fn refuse(&self) -> ToolResult {
        ToolResult::error("refused")
    }

    /// Adds one.
    #[tool]
    async fn add(&self, to: i64) -> McpResult<i64> {
        Ok(to + 1)
    }
}

async fn call(tool: &str, args: Value) -> McpResult<ToolResult> {
    Failing.call_tool(tool, args, &RequestContext::new()).await
}

/// Every kind of error, whether it is temporary, and whether it is a throttling one.
const KINDS: [(ErrorKind, bool, bool); 26] = [
    (ErrorKind::ToolNotFound, false, false),
    (ErrorKind::ToolExecutionFailed, false, false),
    (ErrorKind::PromptNotFound, false, false),
    (ErrorKind::ResourceNotFound, false, false),
    (ErrorKind::ResourceAccessDenied, false, false),
    (ErrorKind::CapabilityNotSupported, false, false),
    (ErrorKind::ProtocolVersionMismatch, false, false),
    (ErrorKind::UrlElicitationRequired, false, false),
    (ErrorKind::UserRejected, false, false),
    (ErrorKind::ParseError, false, false),
    (ErrorKind::InvalidRequest, false, false),
    (ErrorKind::MethodNotFound, false, false),
    (ErrorKind::InvalidParams, false, false),
    (ErrorKind::Internal, false, false),
    (ErrorKind::Authentication, false, false),
    (ErrorKind::PermissionDenied, false, false),
    (ErrorKind::Transport, true, false),
    (ErrorKind::Timeout, true, false),
    (ErrorKind::Unavailable, true, false),
    (ErrorKind::RateLimited, true, true),
    (ErrorKind::ServerOverloaded, true, true),
    (ErrorKind::Configuration, false, false),
    (ErrorKind::ExternalService, true, false),
    (ErrorKind::Cancelled, false, false),
    (ErrorKind::Security, false, false),
    (ErrorKind::Serialization, false, false),
];

#[tokio::test(start_paused = true)]
async fn the_kind_of_every_error_is_recognized_in_both_forms() {
    for (kind, temporary, throttling) in KINDS {
        let surfaced = call("fail", json!({ "kind": kind })).await;
        assert_eq!(
            surfaced.is_err(),
            kind == ErrorKind::UrlElicitationRequired,
            "the macro hides all errors but one in a result: {kind:?}"
        );
        let expected = Seen { temporary, throttling, ..Seen::plain(kind, "it did not work") };
        assert_eq!(Seen::of(&surfaced), expected);
        assert_eq!(Seen::of(&Err(McpError::new(kind, "it did not work"))), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_data_of_an_error_is_recognized_in_both_forms() {
    let data = json!({ "retryAfterMs": 1500, "quota": 3 });
    let expected = Seen {
        data: Some(data.clone()),
        temporary: true,
        throttling: true,
        retry_after: Some(Duration::from_millis(1500)),
        ..Seen::plain(ErrorKind::RateLimited, "it did not work")
    };
    assert_eq!(Seen::of(&call("fail", json!({ "kind": "rate_limited", "data": data })).await), expected);
    let error = McpError::new(ErrorKind::RateLimited, "it did not work").with_data(data);
    assert_eq!(Seen::of(&Err(error)), expected);
}

#[tokio::test(start_paused = true)]
async fn a_url_to_visit_stays_an_error_with_its_data() {
    let data = json!({ "elicitations": [{ "url": "https://login.example" }] });
    let result = call("fail", json!({ "kind": "url_elicitation_required", "data": data })).await;
    assert!(result.is_err(), "the client needs the protocol error");
    let expected = Seen { data: Some(data), ..Seen::plain(ErrorKind::UrlElicitationRequired, "it did not work") };
    assert_eq!(Seen::of(&result), expected);
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_kind_is_a_failure_that_is_not_temporary() {
    assert_eq!(Seen::of(&call("text", json!({})).await), Seen::plain(None, "a text"));
    assert_eq!(Seen::of(&call("own", json!({})).await), Seen::plain(None, "an error of its own"));
    assert_eq!(Seen::of(&call("refuse", json!({})).await), Seen::plain(None, "refused"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_argument_is_invalid() {
    for args in [json!({ "to": "three" }), json!({}), json!({ "to": 1, "from": 2 })] {
        let seen = Seen::of(&call("add", args.clone()).await);
        assert_eq!(seen, Seen::plain(ErrorKind::InvalidParams, &seen.message), "{args}");
        assert!(!seen.message.is_empty(), "{args}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_not_found() {
    let result = call("divide", json!({})).await;
    assert!(result.is_err(), "turbomcp answers it with a protocol error");
    assert_eq!(Seen::of(&result), Seen::plain(ErrorKind::ToolNotFound, "Tool not found: divide"));
}

#[tokio::test(start_paused = true)]
async fn a_success_is_no_failure_whatever_its_meta_says() {
    assert!(outcome::failure(&call("add", json!({ "to": 1 })).await).is_none());

    let mut result = McpError::unavailable("down").to_tool_result();
    result.is_error = None;
    assert!(outcome::failure(&Ok(result.clone())).is_none());
    result.is_error = Some(false);
    assert!(outcome::failure(&Ok(result)).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kind_is_no_kind() {
    for kind in [json!("melted"), json!(3), json!(null)] {
        let meta = [("io.turbomcp/errorKind".to_owned(), kind)];
        let result = ToolResult::error("melted").with_meta(meta.into_iter().collect());
        assert_eq!(Seen::of(&Ok(result)), Seen::plain(None, "melted"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_hint_is_milliseconds_in_the_data_or_in_meta() {
    let hinted = |hint: Value| {
        let meta = [("retryAfterMs".to_owned(), hint)];
        Seen::of(&Ok(ToolResult::error("later").with_meta(meta.into_iter().collect()))).retry_after
    };
    assert_eq!(hinted(json!(250)), Some(Duration::from_millis(250)));
    assert_eq!(hinted(json!(0.5)), Some(Duration::from_micros(500)));
    assert_eq!(hinted(json!(0)), Some(Duration::ZERO));
    assert_eq!(hinted(json!(1e300)), Some(Duration::MAX), "longer than any duration is not at once");
    for nonsense in [json!(-1), json!(-1e300), json!("250"), json!(null), json!([250])] {
        assert_eq!(hinted(nonsense.clone()), None, "{nonsense}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_hint_in_the_data_precedes_the_one_in_meta() {
    let mut result = McpError::unavailable("later").with_data(json!({ "retryAfterMs": 100 })).to_tool_result();
    result.meta.get_or_insert_default().insert("retryAfterMs".to_owned(), json!(200));
    assert_eq!(Seen::of(&Ok(result)).retry_after, Some(Duration::from_millis(100)));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_failure_is_marked_in_both_forms() {
    let retried = RetryTool::new().with_seed(1).layer(Failing);
    let given_up = retried.call_tool("fail", json!({ "kind": "unavailable" }), &RequestContext::new()).await;
    let expected = Seen { temporary: true, exhausted: true, ..Seen::plain(ErrorKind::Unavailable, "it did not work") };
    assert_eq!(Seen::of(&given_up), expected);

    let data = json!({ "mcp-patterns/exhausted": "attempts" });
    let error = McpError::unavailable("it did not work").with_data(data.clone());
    assert_eq!(Seen::of(&Err(error)), Seen { data: Some(data), ..expected });
}

/// A tool that returns another server's exhausted error is exhausted, too.
#[tokio::test(start_paused = true)]
async fn an_exhausted_failure_stays_marked_when_a_tool_passes_it_on() {
    let given_up = json!({ "mcp-patterns/exhausted": "attempts" });
    let passed_on = call("fail", json!({ "kind": "unavailable", "data": given_up })).await;
    assert!(Seen::of(&passed_on).exhausted);
}

#[tokio::test(start_paused = true)]
async fn no_layer_keeps_shares_or_repeats_an_unfinished_call() {
    let server = ScriptedServer::new("asking").with_read_only("ask", |call| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(Unfinished::InputRequired.into_error(format!("question {}", call.number)))
    });
    let kinds = [ErrorKind::UrlElicitationRequired];
    let cached = || CachedTool::new().with_negative_ttl(kinds, Duration::from_secs(60));
    let retry = || RetryTool::new().retry_if(|_| true);
    let servers = [
        boxed((cached(), retry()).layer(server.clone())),
        boxed((BatchedTool::new().only(["ask"]), retry()).layer(server.clone())),
        boxed((cached(), BatchedTool::new().only(["ask"])).layer(server.clone())),
    ];
    for (round, server) in servers.iter().enumerate() {
        let call = async || {
            let ctx = RequestContext::new();
            let answer = server.call_tool("ask", json!({}), &ctx).await;
            let failure = outcome::failure(&answer).expect("it is unfinished");
            assert_eq!(failure.unfinished(), Some(Unfinished::InputRequired));
            failure.message().to_owned()
        };
        let mut questions = join_all((0..3).map(|_| call())).await;
        questions.sort();
        let expected: Vec<_> = (1..=3).map(|number| format!("question {}", 3 * round + number)).collect();
        assert_eq!(questions, expected, "each caller has a question of its own");
    }
}
