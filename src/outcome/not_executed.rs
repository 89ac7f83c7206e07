//! Which failures prove that the call took no effect.

use serde_json::Value;

use super::{ATTEMPTS, BATCH, ErrorKind, Failure, LIMIT, SESSION};

/// The mark of inner layers for a call during which the connection to a backend was lost.
pub(super) const LOST: [(&str, &str); 2] = [
    ("mcp-patterns/transaction", "outcome_unknown"),
    // The backend of a session failed while it wrote.
    (SESSION, "outcome_unknown"),
];

/// The mark of inner layers for a call whose outcome is unknown, whatever the kind of its failure.
const UNKNOWN_OUTCOMES: [(&str, &str); 2] =
    [("mcp-patterns/transaction", "ended_early"), ("mcp-patterns/idempotency", "ambiguous")];

/// The mark of inner layers for a call that was cancelled before it began.
const NOT_BEGUN: [(&str, &str); 2] = [(LIMIT, "cancelled"), ("mcp-patterns/idempotency", "cancelled")];

/// See [`Failure::is_not_executed`].
pub(super) fn is_proven_by(failure: &Failure<'_>) -> bool {
    (failure.kind().is_some_and(is_refusal) || is_marked(failure, &NOT_BEGUN))
        && !is_converted(failure.message())
        && failure.noted(ATTEMPTS).and_then(Value::as_u64).unwrap_or(1) <= 1
        && !is_marked(failure, &UNKNOWN_OUTCOMES)
        && !is_marked(failure, &LOST)
        && failure.noted(BATCH).is_none_or(|batch| batch["outcome"] != "unknown")
}

/// Says whether an inner layer has left one of these marks.
pub(super) fn is_marked(failure: &Failure<'_>, marks: &[(&str, &str)]) -> bool {
    marks.iter().any(|(layer, word)| failure.noted(layer).is_some_and(|noted| noted == word))
}

const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        // The call is invalid.
        ErrorKind::InvalidParams
            | ErrorKind::InvalidRequest
            | ErrorKind::MethodNotFound
            | ErrorKind::ProtocolVersionMismatch
            | ErrorKind::CapabilityNotSupported
            | ErrorKind::Configuration
            // The target of the call does not exist.
            | ErrorKind::ToolNotFound
            | ErrorKind::ResourceNotFound
            | ErrorKind::PromptNotFound
            // The caller lacks a permission, has refused, or must do something first.
            | ErrorKind::ResourceAccessDenied
            | ErrorKind::PermissionDenied
            | ErrorKind::Authentication
            | ErrorKind::Security
            | ErrorKind::UserRejected
            | ErrorKind::UrlElicitationRequired
            // The server refuses the call for now.
            | ErrorKind::RateLimited
            | ErrorKind::ServerOverloaded
            | ErrorKind::Unavailable
    )
}

/// turbomcp converts a serde error into `invalid_params`, and a missing file into `resource_not_found`, at any `?` in a
/// tool. That may be after the effect.
fn is_converted(message: &str) -> bool {
    message.starts_with("JSON error: ") || message.starts_with("IO error: ")
}
