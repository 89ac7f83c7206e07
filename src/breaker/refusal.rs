//! The answer to a call that is not let through.

use serde_json::json;
use turbomcp_core::{McpError, McpResult};
use turbomcp_types::ToolResult;

use crate::circuit::{Refused, State};
use crate::clock::millis;
use crate::outcome::{self, BREAKER, EXHAUSTED, RETRY_AFTER_MS};

/// The result for the caller. It says to outer layers that no further attempt helps: a retry would wait for the whole pause.
pub(super) fn refused(tool: &str, refused: Refused) -> McpResult<ToolResult> {
    let wait = refused.retry_after.map(millis);
    let why = match refused.state {
        State::ForcedOpen => "is switched off for now",
        _ => "is not available: too many of its last calls failed or were too slow",
    };
    let when = wait.map_or_else(String::new, |wait| format!(". Try again in {}", outcome::wait_in_words(wait)));
    let mut error = McpError::unavailable(format!("`{tool}` {why}{when}. Nothing was done"));
    if let Some(wait) = wait {
        error = error.with_data(json!({ RETRY_AFTER_MS: wait }));
    }
    let mut result = Ok(outcome::marked(BREAKER, refused.state.as_str(), error).to_tool_result());
    outcome::note(&mut result, EXHAUSTED, "breaker");
    result
}
