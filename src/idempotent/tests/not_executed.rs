//! Which failures release the key.

use super::*;
use crate::outcome::SESSION;
use crate::{Middleware, RetryTool};

const REFUSALS: [ErrorKind; 18] = [
    ErrorKind::InvalidParams,
    ErrorKind::InvalidRequest,
    ErrorKind::MethodNotFound,
    ErrorKind::ProtocolVersionMismatch,
    ErrorKind::CapabilityNotSupported,
    ErrorKind::Configuration,
    ErrorKind::ToolNotFound,
    ErrorKind::ResourceNotFound,
    ErrorKind::PromptNotFound,
    ErrorKind::ResourceAccessDenied,
    ErrorKind::PermissionDenied,
    ErrorKind::Authentication,
    ErrorKind::Security,
    ErrorKind::UserRejected,
    ErrorKind::UrlElicitationRequired,
    ErrorKind::RateLimited,
    ErrorKind::ServerOverloaded,
    ErrorKind::Unavailable,
];

const PROVES_NOTHING: [ErrorKind; 8] = [
    ErrorKind::ToolExecutionFailed,
    ErrorKind::ParseError,
    ErrorKind::Internal,
    ErrorKind::Transport,
    ErrorKind::Timeout,
    ErrorKind::ExternalService,
    ErrorKind::Cancelled,
    ErrorKind::Serialization,
];

/// Returns the answers to two calls with one key: of a tool that fails once with a result, and of one that fails once
/// with an `Err`.
async fn two_calls(tool: &IdempotentTool, error: &McpError) -> [[McpResult<ToolResult>; 2]; 2] {
    let surfaced = tool.layer(stumbling_post(error.clone()));
    let raised = tool.layer(crate::layer(Raises(error.clone())).layer(stumbling_post(error.clone())));
    let keys = ["surfaced", "raised"].map(|form| format!("{form}.{:?}", error.kind));
    [
        [send(&surfaced, &keys[0]).await, send(&surfaced, &keys[0]).await],
        [send(&raised, &keys[1]).await, send(&raised, &keys[1]).await],
    ]
}

/// Fails with this `Err` when the server below fails with a result.
#[derive(Clone)]
struct Raises(McpError);

impl Middleware for Raises {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let result = inner.call_tool(name, args, ctx).await?;
        if result.is_error() { Err(self.0.clone()) } else { Ok(result) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_releases_the_key() {
    for kind in REFUSALS {
        for [first, second] in two_calls(&memory(), &McpError::new(kind, "no")).await {
            assert_eq!((text(&first), told(&first)), ("no".into(), Value::Null), "{kind:?}");
            assert_eq!((text(&second), told(&second)), ("sent 2".into(), Value::Null), "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_other_kind_of_failure_releases_the_key() {
    for kind in PROVES_NOTHING {
        for [first, second] in two_calls(&memory(), &McpError::new(kind, "no")).await {
            assert_eq!((text(&first), told(&first)), ("no".into(), json!("ambiguous")), "{kind:?}");
            assert!(is_ambiguous(&second), "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_a_kind_is_ambiguous() {
    let post = ScriptedServer::new("post").with_plain("send", |_| ready(Ok(ToolResult::error("something"))));
    let server = memory().layer(post.clone());
    assert_eq!(told(&send(&server, "k").await), "ambiguous");
    assert!(is_ambiguous(&send(&server, "k").await));
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_converted_deserialization_error_is_no_proof_that_nothing_ran() {
    let unreadable = serde_json::from_str::<u8>("\"twelve\"").unwrap_err();
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    for error in [McpError::from(unreadable), McpError::from(missing)] {
        assert!(REFUSALS.contains(&error.kind), "{error:?}");
        for [_, second] in two_calls(&memory(), &error).await {
            assert!(is_ambiguous(&second), "{error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_error_releases_the_key_only_if_nothing_was_changed() {
    let unavailable = |told| McpError::unavailable("down").with_data(json!({ SESSION: told }));
    for [first, second] in two_calls(&memory(), &unavailable("outcome_unknown")).await {
        assert_eq!(told(&first), "ambiguous");
        assert!(is_ambiguous(&second));
    }
    for [_, second] in two_calls(&memory(), &unavailable("unavailable")).await {
        assert_eq!(text(&second), "sent 2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_inner_retries_is_no_proof_for_earlier_attempts() {
    let post = ScriptedServer::new("post").with_plain("send", |call| {
        ready(Err(if call.number == 1 { McpError::timeout("no answer") } else { McpError::unavailable("closed") }))
    });
    let retry = RetryTool::new().allow_repeated_effects(["send"]);
    let server = (memory(), retry).layer(post.clone());
    let failed = send(&server, "k").await;
    assert_eq!((text(&failed), told(&failed)), ("closed".into(), json!("ambiguous")));
    assert!(is_ambiguous(&send(&server, "k").await));
    assert_eq!(post.calls("send"), 3);
}

#[tokio::test(start_paused = true)]
async fn the_judgement_of_failures_can_be_replaced() {
    let timeouts = memory().with_not_executed(|failure| failure.kind() == Some(ErrorKind::Timeout));
    for [_, second] in two_calls(&timeouts, &McpError::timeout("no")).await {
        assert_eq!(text(&second), "sent 2");
    }
    for [_, second] in two_calls(&timeouts, &McpError::invalid_params("no")).await {
        assert!(is_ambiguous(&second));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_recorded_is_replayed_in_its_form() {
    let recording = memory().with_idempotency(Idempotency::new().recording_failures());
    let error = McpError::permission_denied("not you").with_data(json!({"who": "you"}));
    for [first, second] in two_calls(&recording, &error).await {
        assert_eq!((text(&second), kind(&second)), ("not you".into(), Some(ErrorKind::PermissionDenied)));
        assert_eq!(first.is_err(), second.is_err());
        assert_eq!(outcome::failure(&second).unwrap().data().unwrap()["who"], "you");
        assert_eq!((told(&first), told(&second)), (Value::Null, json!("replayed")));
    }
    for [_, second] in two_calls(&recording, &McpError::timeout("no")).await {
        assert!(is_ambiguous(&second), "what may have taken effect has no answer");
    }
}
