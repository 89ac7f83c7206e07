//! The fixtures that are tasks.

use std::time::Duration;

use futures_util::FutureExt;
use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, ErrorCode};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::Value;

use crate::content::text;
use crate::questions::elicit;

/// Continues a call as a task.
pub(crate) fn start<F>(tasks: &TaskManager, work: impl FnOnce(TaskContext) -> F) -> CallToolResponse
where
    F: Future<Output = Result<CallToolResult, TaskExit>> + Send + 'static,
{
    let options = TaskOptions::new().with_poll_interval_ms(50);
    CreateTaskResult::new(tasks.spawn(options, |task| work(task).boxed())).into()
}

/// Refuses a client that cannot follow a task.
pub(crate) fn must_follow(ctx: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    match can_follow(ctx) {
        true => Ok(()),
        false => {
            Err(ErrorData::missing_required_client_capability(ClientCapabilities::builder().enable_tasks().build()))
        }
    }
}

pub(crate) fn can_follow(ctx: &RequestContext<RoleServer>) -> bool {
    ctx.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks())
}

pub(crate) async fn slow(task: TaskContext, seconds: f64) -> Result<CallToolResult, TaskExit> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => Ok(text(format!("Computed for {seconds} s"))),
        () = task.cancelled() => Err(TaskExit::Cancelled),
    }
}

pub(crate) async fn failing() -> Result<CallToolResult, TaskExit> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(CallToolResult::error(vec![ContentBlock::text("This job always fails")]))
}

pub(crate) async fn breaking() -> Result<CallToolResult, TaskExit> {
    Err(ErrorData::new(ErrorCode::INTERNAL_ERROR, "This job always breaks", None).into())
}

async fn input(task: &TaskContext, key: &str, message: &str, field: &str, kind: &str) -> Result<Value, TaskExit> {
    let question = serde_json::from_value(elicit(message, field, kind))
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let answer = task.request_input(key, question).await?;
    Ok(answer["content"][field].clone())
}

pub(crate) async fn confirmed(task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let answer = input(&task, "confirm", "Delete it?", "confirm", "boolean").await?;
    Ok(text(format!("Confirmed: {answer}")))
}

pub(crate) async fn several(task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let one = input(&task, "first", "The first?", "name", "string");
    let other = input(&task, "second", "The second?", "name", "string");
    let (one, other) = tokio::try_join!(one, other)?;
    Ok(text(format!("Both: {one}, {other}")))
}
