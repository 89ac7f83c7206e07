//! An outer layer does not multiply the attempts of an inner one.

use super::super::Budget;
use super::*;

#[tokio::test(start_paused = true)]
async fn two_nested_layers_make_three_calls_and_not_nine_when_the_tool_answers_with_an_error() {
    let script = failing(ALWAYS, down());
    let result = call(&(RetryTool::new(), RetryTool::new()).layer(script.clone())).await;
    assert_eq!(script.calls("get"), 3);
    assert_eq!(notes(&result), (json!(3), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn two_nested_layers_make_three_calls_and_not_nine_when_the_handler_returns_err() {
    let script = failing(ALWAYS, down());
    let result = call(&(RetryTool::new(), RetryTool::new()).layer(raising(script.clone(), down()))).await;
    assert_eq!(script.calls("get"), 3);
    assert_eq!(notes(&result), (json!(3), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn an_inner_layer_without_meta_still_marks_exhausted_failures() {
    let script = failing(ALWAYS, down());
    call(&(RetryTool::new(), RetryTool::new().without_meta()).layer(script.clone())).await.unwrap();
    assert_eq!(script.calls("get"), 3);

    let script = failing(ALWAYS, down());
    let server = (RetryTool::new(), RetryTool::new().without_meta()).layer(raising(script.clone(), down()));
    call(&server).await.unwrap_err();
    assert_eq!(script.calls("get"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_an_inner_layer_stopped_retrying_is_not_retried_whatever_the_reason() {
    let script = failing(ALWAYS, down());
    let inner = RetryTool::new().with_budget(Budget::new().with_burst(0));
    let result = call(&(RetryTool::new(), inner).layer(script.clone())).await;
    assert_eq!(script.calls("get"), 1);
    assert_eq!(notes(&result), (json!(1), json!("budget")));
}

/// Answers with a result when the handler below returns `Err`, as the tool of a composite may.
#[derive(Clone)]
struct Surfaces;

impl Middleware for Surfaces {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        Ok(inner.call_tool(name, args, ctx).await.unwrap_or_else(|error| error.to_tool_result()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_failure_stays_exhausted_when_a_handler_in_between_changes_its_form() {
    let script = failing(ALWAYS, down());
    let server = (RetryTool::new(), layer(Surfaces), RetryTool::new()).layer(raising(script.clone(), down()));
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 3, "an `Err` below, a result above");
}

#[tokio::test(start_paused = true)]
async fn an_outer_layer_retries_tools_that_the_inner_layer_does_not_act_on() {
    let script = failing(ALWAYS, down());
    let result = call(&(RetryTool::new(), RetryTool::new().except(["get"])).layer(script.clone())).await;
    assert_eq!(script.calls("get"), 3);
    assert_eq!(notes(&result), (json!(3), json!("attempts")));
}

#[tokio::test(start_paused = true)]
async fn an_outer_retry_if_does_not_retry_an_exhausted_failure_of_an_inner_layer() {
    let script = failing(ALWAYS, down());
    let server = (RetryTool::new().retry_if(|_| true), RetryTool::new()).layer(script.clone());
    call(&server).await.unwrap();
    assert_eq!(script.calls("get"), 3);

    let script = failing(ALWAYS, down());
    let server = (RetryTool::new().retry_if(|_| true), RetryTool::new()).layer(raising(script.clone(), down()));
    call(&server).await.unwrap_err();
    assert_eq!(script.calls("get"), 3);
}
