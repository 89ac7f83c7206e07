//! Slow tools.

use std::time::Duration;

use turbomcp::prelude::*;
use turbomcp_core::ErrorKind;

use crate::state::State;

/// How often a waiting tool checks whether it is cancelled.
const STEP: Duration = Duration::from_millis(10);

/// Reports each of its steps. It waits before the first one, so that a concurrent caller joins before it: a caller who
/// joins later gets only the later steps.
pub(crate) async fn count(steps: u32, step_ms: u64, ctx: &RequestContext) -> McpResult<String> {
    tokio::time::sleep(Duration::from_millis(step_ms)).await;
    for step in 1..=steps {
        ctx.report_progress(f64::from(step), Some(f64::from(steps)), Some(&format!("step {step}"))).await?;
        tokio::time::sleep(Duration::from_millis(step_ms)).await;
    }
    Ok(format!("Counted to {steps}"))
}

/// Reports two steps and fails with a temporary failure; the second call with the same key reports three and succeeds.
pub(crate) async fn count_again(key: &str, state: &State, ctx: &RequestContext) -> McpResult<String> {
    let running = state.start(key);
    let is_first = running.number() == 1;
    count(if is_first { 2 } else { 3 }, 20, ctx).await?;
    running.finished();
    if is_first { Err(McpError::unavailable("Not yet")) } else { Ok("Counted again".to_owned()) }
}

/// Waits until the time is over or the caller has left.
pub(crate) async fn wait(key: &str, ms: u64, state: &State, ctx: &RequestContext) -> McpResult<String> {
    let running = state.start(key);
    let end = tokio::time::Instant::now() + Duration::from_millis(ms);
    while tokio::time::Instant::now() < end {
        if ctx.is_cancelled() {
            running.cancelled();
            return Err(McpError::new(ErrorKind::Cancelled, "Cancelled"));
        }
        tokio::time::sleep(STEP).await;
    }
    running.finished();
    Ok(format!("Waited for {key}"))
}
