//! Which failures are retried, and how often.

use std::sync::atomic::{AtomicUsize, Ordering};

use turbomcp::prelude::*;
use turbomcp_core::ErrorKind;
use turbomcp_types::{Tool, ToolAnnotations};

use super::*;

/// A server whose tools fail on their first two calls.
#[derive(Clone, Default)]
struct Upstream {
    calls: Arc<AtomicUsize>,
}

impl Upstream {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn third_time_lucky(&self, error: McpError) -> McpResult<String> {
        if self.calls.fetch_add(1, Ordering::SeqCst) < 2 { Err(error) } else { Ok("here".into()) }
    }
}

#[server(name = "upstream", version = "1.0.0")]
impl Upstream {
    /// Reads.
    #[tool(read_only = true)]
    async fn read(&self) -> McpResult<String> {
        self.third_time_lucky(down())
    }

    /// Sets.
    #[tool(idempotent = true)]
    async fn put(&self) -> McpResult<String> {
        self.third_time_lucky(down())
    }

    /// Sends.
    #[tool]
    async fn send(&self) -> McpResult<String> {
        self.third_time_lucky(down())
    }

    /// Appends, which is not destructive.
    #[tool(destructive = false)]
    async fn append(&self) -> McpResult<String> {
        self.third_time_lucky(down())
    }

    /// Reads something that the caller may not read.
    #[tool(read_only = true)]
    async fn refuse(&self) -> McpResult<String> {
        self.third_time_lucky(McpError::invalid_params("not this one"))
    }

    /// Reads, and fails with an error of its own.
    #[tool(read_only = true)]
    async fn untyped(&self) -> Result<String, String> {
        self.third_time_lucky(down()).map_err(|error| error.message)
    }
}

/// Calls `tool` of a new [`Upstream`] through the layer with its defaults: the calls that reached it, and the result.
async fn reached(tool: &str) -> (usize, ToolResult) {
    let upstream = Upstream::default();
    let server = RetryTool::new().layer(upstream.clone());
    let result = server.call_tool(tool, json!({}), &RequestContext::new()).await.unwrap();
    (upstream.calls(), result)
}

#[tokio::test(start_paused = true)]
async fn a_macro_built_tool_that_fails_twice_and_then_succeeds_is_called_three_times() {
    let (calls, result) = reached("read").await;
    assert_eq!(calls, 3);
    assert!(!result.is_error());
    assert_eq!(result.first_text(), Some("here"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_only_idempotent_is_retried() {
    assert_eq!(reached("put").await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_neither_read_only_nor_idempotent_is_called_once() {
    for tool in ["send", "append"] {
        let (calls, result) = reached(tool).await;
        assert_eq!(calls, 1, "{tool}");
        assert_eq!(result, down().to_tool_result(), "{tool}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_tool_counts_as_idempotent_whatever_its_other_annotations() {
    let annotations =
        ToolAnnotations { read_only_hint: Some(true), idempotent_hint: Some(false), ..ToolAnnotations::default() };
    let tool = Tool { annotations: Some(annotations), ..Tool::new("get", "reads") };
    let script = ScriptedServer::new("upstream").with_tool(tool, |_| ready(Err(down())));
    call(&RetryTool::new().layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn invalid_params_are_not_retried() {
    let (calls, result) = reached("refuse").await;
    assert_eq!(calls, 1);
    assert_eq!(result, McpError::invalid_params("not this one").to_tool_result());
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_a_kind_is_not_retried() {
    let (calls, result) = reached("untyped").await;
    assert_eq!(calls, 1);
    assert_eq!(result, ToolResult::error("the upstream is down"));

    let script =
        ScriptedServer::new("upstream").with_read_only("get", |_| ready(Ok(ToolResult::error("something went wrong"))));
    call(&RetryTool::new().layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kind_is_not_retried() {
    let unknown = ToolResult {
        meta: Some([("io.turbomcp/errorKind".to_owned(), json!("brand_new"))].into_iter().collect()),
        ..ToolResult::error("something new")
    };
    let script = ScriptedServer::new("upstream").with_read_only("get", move |_| ready(Ok(unknown.clone())));
    call(&RetryTool::new().layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 1);
}

const TEMPORARY: [ErrorKind; 6] = [
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::Transport,
    ErrorKind::ExternalService,
    ErrorKind::RateLimited,
    ErrorKind::ServerOverloaded,
];

const PERMANENT: [ErrorKind; 20] = [
    ErrorKind::ToolNotFound,
    ErrorKind::ToolExecutionFailed,
    ErrorKind::PromptNotFound,
    ErrorKind::ResourceNotFound,
    ErrorKind::ResourceAccessDenied,
    ErrorKind::CapabilityNotSupported,
    ErrorKind::ProtocolVersionMismatch,
    ErrorKind::UrlElicitationRequired,
    ErrorKind::UserRejected,
    ErrorKind::ParseError,
    ErrorKind::InvalidRequest,
    ErrorKind::MethodNotFound,
    ErrorKind::InvalidParams,
    ErrorKind::Internal,
    ErrorKind::Authentication,
    ErrorKind::PermissionDenied,
    ErrorKind::Configuration,
    ErrorKind::Cancelled,
    ErrorKind::Security,
    ErrorKind::Serialization,
];

/// The calls that reach a tool that always fails with `kind`: as a result, and as an `Err`.
async fn calls_by_form(kind: ErrorKind) -> [usize; 2] {
    let error = McpError::new(kind, "no");
    let surfaced = failing(ALWAYS, error.clone());
    call(&RetryTool::new().layer(surfaced.clone())).await.unwrap();
    let raised = failing(ALWAYS, error.clone());
    call(&RetryTool::new().layer(raising(raised.clone(), error))).await.unwrap_err();
    [surfaced.calls("get"), raised.calls("get")]
}

#[tokio::test(start_paused = true)]
async fn every_temporary_kind_is_retried_in_both_forms() {
    for kind in TEMPORARY {
        assert_eq!(calls_by_form(kind).await, [3, 3], "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_other_kind_is_retried_in_either_form() {
    for kind in PERMANENT {
        assert_eq!(calls_by_form(kind).await, [1, 1], "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handwritten_handler_that_returns_err_is_retried_until_it_succeeds() {
    let script = failing(2, down());
    let server = RetryTool::new().layer(raising(script.clone(), down()));
    assert_eq!(call(&server).await.unwrap().first_text(), Some("here"));
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_answered_by_the_server_below() {
    let server = RetryTool::new().layer(Upstream::default());
    let error = server.call_tool("nope", json!({}), &RequestContext::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ToolNotFound);
    assert!(error.data().is_none());
}

#[tokio::test(start_paused = true)]
async fn every_attempt_gets_the_same_arguments_and_context() {
    let seen = Log::new();
    let log = seen.clone();
    let script = ScriptedServer::new("upstream").with_read_only("get", move |call| {
        log.push((call.args, call.ctx.request_id));
        ready(Err(down()))
    });
    let server = RetryTool::new().layer(script);
    let args = json!({"city": "Paris", "days": [1, 2]});
    server.call_tool("get", args.clone(), &RequestContext::new().with_request_id("7")).await.unwrap();
    assert_eq!(seen.entries(), vec![(args, "7".to_owned()); 3]);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_means_no_retries() {
    let script = failing(ALWAYS, down());
    call(&RetryTool::new().with_max_attempts(1).layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_failure_that_is_permanent_ends_the_call() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| {
        ready(Err(if call.number == 1 { down() } else { McpError::invalid_params("no") }))
    });
    let result = call(&RetryTool::new().layer(script.clone())).await;
    assert_eq!(script.calls("get"), 2);
    assert_eq!(notes(&result), (json!(2), Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_tool_with_idempotency_keys_is_retried_if_the_call_has_a_key() {
    let advertised = [("mcp-patterns/idempotency".to_owned(), json!({"argument": "idempotency_key"}))];
    let tool = Tool { meta: Some(advertised.into_iter().collect()), ..Tool::new("pay", "pays") };
    let script = ScriptedServer::new("bank").with_tool(tool, |_| ready(Err(down())));
    let server = RetryTool::new().layer(script.clone());
    for (args, reached) in [(json!({}), 1), (json!({"idempotency_key": 7}), 2), (json!({"idempotency_key": "a"}), 5)] {
        server.call_tool("pay", args.clone(), &RequestContext::new()).await.unwrap();
        assert_eq!(script.calls("pay"), reached, "{args}");
    }
}
