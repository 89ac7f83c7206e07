use serde_json::Value;
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

use crate::outcome::{ATTEMPTS, ErrorKind, Failure, SESSION};

/// Says whether a failure proves that nothing was done: somebody refused before anything began.
///
/// A timeout, a broken connection, a failing service, an internal error and a failure without a kind prove nothing.
pub(super) fn proves_that_nothing_was_done(failure: &Failure<'_>, result: &McpResult<ToolResult>) -> bool {
    failure.kind().is_some_and(is_refusal)
        && !is_converted(failure.message())
        && !may_be_in_a_session(failure)
        && attempts(result) <= 1
}

const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        // The call makes no sense.
        ErrorKind::InvalidParams
            | ErrorKind::InvalidRequest
            | ErrorKind::MethodNotFound
            | ErrorKind::ProtocolVersionMismatch
            | ErrorKind::CapabilityNotSupported
            | ErrorKind::Configuration
            // What it is about is not there.
            | ErrorKind::ToolNotFound
            | ErrorKind::ResourceNotFound
            | ErrorKind::PromptNotFound
            // The caller may not, or does not want to, or has to do something first.
            | ErrorKind::ResourceAccessDenied
            | ErrorKind::PermissionDenied
            | ErrorKind::Authentication
            | ErrorKind::Security
            | ErrorKind::UserRejected
            | ErrorKind::UrlElicitationRequired
            // Not now.
            | ErrorKind::RateLimited
            | ErrorKind::ServerOverloaded
            | ErrorKind::Unavailable
    )
}

/// turbomcp makes `invalid_params` of an answer that serde cannot read, and `resource_not_found` of a missing file, wherever in a
/// tool a `?` stands. That may be after the effect.
fn is_converted(message: &str) -> bool {
    message.starts_with("JSON error: ") || message.starts_with("IO error: ")
}

/// A session's backend failed while it wrote.
fn may_be_in_a_session(failure: &Failure<'_>) -> bool {
    failure.data().and_then(|data| data.get(SESSION)).is_some_and(|told| told == "unknowable")
}

/// How often a layer further in made the call. Only the last of several failures is known, and the others may have been others.
fn attempts(result: &McpResult<ToolResult>) -> u64 {
    let attempts = match result {
        Ok(result) => result.meta.as_ref().and_then(|meta| meta.get(ATTEMPTS)),
        Err(error) => error.data().and_then(|data| data.get(ATTEMPTS)),
    };
    attempts.and_then(Value::as_u64).unwrap_or(1)
}
