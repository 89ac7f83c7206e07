//! The information for callers, hooks and counters.

use turbomcp_core::ErrorKind;

use super::super::{Budget, Jitter};
use super::*;
use crate::outcome;

fn meta(entries: &[(&str, Value)]) -> Option<turbomcp_types::MetaMap> {
    Some(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_keeps_its_text_kind_code_and_data_and_states_the_attempts() {
    let error = down().with_data(json!({"upstream": "weather"}));
    let result = call(&RetryTool::new().layer(failing(ALWAYS, error.clone()))).await.unwrap();
    let mut expected = error.to_tool_result();
    expected.meta.as_mut().unwrap().extend([
        ("mcp-patterns/attempts".to_owned(), json!(3)),
        ("mcp-patterns/exhausted".to_owned(), json!("attempts")),
    ]);
    assert_eq!(result, expected);
}

#[tokio::test(start_paused = true)]
async fn the_last_err_keeps_its_text_kind_and_data_and_states_the_attempts() {
    let error = McpError::rate_limited("too many").with_data(json!({"upstream": "weather"})).with_operation("get");
    let script = failing(ALWAYS, error.clone());
    let failed = call(&RetryTool::new().layer(raising(script, error))).await.unwrap_err();
    assert_eq!((failed.kind, failed.message.as_str()), (ErrorKind::RateLimited, "too many"));
    let told = json!({"upstream": "weather", "mcp-patterns/attempts": 3, "mcp-patterns/exhausted": "attempts"});
    assert_eq!(failed.data(), Some(&told));
    assert_eq!(failed.context.unwrap().operation.as_deref(), Some("get"));
}

#[tokio::test(start_paused = true)]
async fn error_data_that_is_not_an_object_is_kept() {
    for data in [json!("weather"), json!([1, 2]), json!(7), json!(null)] {
        let error = down().with_data(data.clone());
        let script = failing(ALWAYS, error.clone());
        let failed = call(&RetryTool::new().layer(raising(script, error))).await.unwrap_err();
        let told = json!({"data": data, "mcp-patterns/attempts": 3, "mcp-patterns/exhausted": "attempts"});
        assert_eq!(failed.data(), Some(&told));
    }
}

#[tokio::test(start_paused = true)]
async fn result_data_that_is_not_an_object_is_kept() {
    let error = down().with_data(json!(["weather"]));
    let result = call(&RetryTool::new().layer(failing(ALWAYS, error))).await;
    assert_eq!(outcome::failure(&result).unwrap().data(), Some(&json!(["weather"])));
}

#[tokio::test(start_paused = true)]
async fn a_failure_states_why_it_was_not_retried_further() {
    let token = Token::default();
    token.cancel();
    let live = RequestContext::new();
    let retry = RetryTool::new().with_jitter(Jitter::None);
    let cases = [
        ("attempts", 3, retry.clone(), live.clone()),
        ("deadline", 2, retry.clone().with_deadline(ms(120)), live.clone()),
        ("budget", 1, retry.clone().with_budget(Budget::new().with_burst(0)), live),
        ("cancelled", 1, retry, token.ctx()),
    ];
    for (why, attempts, retry, ctx) in cases {
        let surfaced = call_with(&retry.layer(failing(ALWAYS, down())), &ctx).await;
        assert!(surfaced.is_ok());
        assert_eq!(notes(&surfaced), (json!(attempts), json!(why)));
        // The budget belongs to the layer, and a second call finds the rest of the first.
        let raised = call_with(&retry.layer(raising(failing(ALWAYS, down()), down())), &ctx).await;
        assert!(raised.is_err());
        assert_eq!(notes(&raised), (json!(attempts), json!(why)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_after_retries_states_only_its_number_of_attempts() {
    let result = call(&RetryTool::new().layer(failing(2, down()))).await.unwrap();
    assert_eq!(result, ToolResult { meta: meta(&[("mcp-patterns/attempts", json!(3))]), ..ToolResult::text("here") });
}

#[tokio::test(start_paused = true)]
async fn a_success_after_retries_keeps_the_meta_of_the_tool() {
    let answer = ToolResult { meta: meta(&[("source", json!("station"))]), ..ToolResult::text("here") };
    let expected = meta(&[("source", json!("station")), ("mcp-patterns/attempts", json!(2))]);
    let script = ScriptedServer::new("upstream")
        .with_read_only("get", move |call| ready(if call.number == 1 { Err(down()) } else { Ok(answer.clone()) }));
    assert_eq!(call(&RetryTool::new().layer(script)).await.unwrap().meta, expected);
}

#[tokio::test(start_paused = true)]
async fn a_success_at_the_first_attempt_equals_that_of_the_bare_handler() {
    let script = failing(0, down());
    let bare = call(&script).await.unwrap();
    assert_eq!(call(&RetryTool::new().layer(script)).await.unwrap(), bare);
    assert_eq!(bare.meta, None);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_at_the_first_attempt_equals_that_of_the_bare_handler() {
    let script = failing(ALWAYS, McpError::invalid_params("no"));
    let bare = call(&script).await.unwrap();
    assert_eq!(call(&RetryTool::new().layer(script)).await.unwrap(), bare);
}

#[tokio::test(start_paused = true)]
async fn without_meta_a_success_after_retries_equals_that_of_the_bare_handler() {
    let script = failing(2, down());
    assert_eq!(call(&RetryTool::new().without_meta().layer(script.clone())).await.unwrap(), ToolResult::text("here"));
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn without_meta_a_failure_after_the_last_attempt_is_still_marked() {
    let result = call(&RetryTool::new().without_meta().layer(failing(ALWAYS, down()))).await;
    assert_eq!(notes(&result), (json!(3), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn without_meta_a_refusal_after_a_temporary_failure_is_no_proof_that_nothing_ran() {
    let script = ScriptedServer::new("upstream").with_read_only("get", |call| {
        let refused = McpError::invalid_params("it is there already");
        ready(Err(if call.number == 1 { McpError::timeout("no answer") } else { refused }))
    });
    let result = call(&RetryTool::new().without_meta().layer(script)).await;
    assert_eq!(notes(&result), (json!(2), Value::Null));
    assert!(!outcome::failure(&result).unwrap().is_not_executed());
}

#[tokio::test(start_paused = true)]
async fn the_hook_sees_tool_attempt_failure_and_delay_before_each_wait() {
    let seen = Log::new();
    let hook = seen.clone();
    let retry = RetryTool::new().with_jitter(Jitter::None).on_retry(move |event| {
        let failure = (event.failure.kind(), event.failure.message().to_owned());
        hook.push((event.tool.to_owned(), event.attempt, failure, event.delay));
    });
    let event = |attempt, delay| {
        let failure = (Some(ErrorKind::Unavailable), "the upstream is down".to_owned());
        ("get".to_owned(), attempt, failure, ms(delay))
    };
    call(&retry.layer(failing(ALWAYS, down()))).await.unwrap();
    assert_eq!(seen.entries(), [event(1, 50), event(2, 100)], "there is no wait after the last attempt");

    call(&retry.layer(raising(failing(1, down()), down()))).await.unwrap();
    assert_eq!(seen.entries()[2..], [event(1, 50)]);

    call(&retry.layer(failing(ALWAYS, McpError::invalid_params("no")))).await.unwrap();
    call(&retry.layer(failing(0, down()))).await.unwrap();
    assert_eq!(seen.entries().len(), 3, "there is nothing to tell of a call that is made once");
}

#[tokio::test(start_paused = true)]
async fn retry_if_replaces_the_rule_for_temporary_failures() {
    let busy = |failure: &outcome::Failure<'_>| failure.message() == "database is locked";
    let retry = RetryTool::new().retry_if(busy);

    let locked = failing(ALWAYS, McpError::internal("database is locked"));
    call(&retry.layer(locked.clone())).await.unwrap();
    assert_eq!(locked.calls("get"), 3);

    let untyped =
        ScriptedServer::new("upstream").with_read_only("get", |_| ready(Ok(ToolResult::error("database is locked"))));
    call(&retry.layer(untyped.clone())).await.unwrap();
    assert_eq!(untyped.calls("get"), 3);

    let other = failing(ALWAYS, down());
    call(&retry.layer(other.clone())).await.unwrap();
    assert_eq!(other.calls("get"), 1);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn retries_and_exhausted_calls_are_counted_by_tool() {
    use metrics_util::debugging::DebuggingRecorder;

    use crate::testing::{counted, counts};

    let script = failing(ALWAYS, down())
        .with_read_only("heals", |call| {
            ready(if call.number == 1 { Err(down()) } else { Ok(ToolResult::text("here")) })
        })
        .with_plain("send", |_| ready(Err(down())));
    let recorder = DebuggingRecorder::new();
    let server = metrics::with_local_recorder(&recorder, || {
        let server = RetryTool::new().layer(script);
        // A passing listing creates no new counters.
        server.list_tools();
        server
    });
    for tool in ["get", "get", "heals", "send"] {
        server.call_tool(tool, json!({}), &RequestContext::new()).await.unwrap();
    }

    let expected = counts([("retries tool=get", 4), ("retries tool=heals", 1), ("retries_exhausted tool=get", 2)]);
    assert_eq!(counted(&recorder), expected);
}
