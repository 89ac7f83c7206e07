//! Which failures prove that the call took no effect.

use serde_json::Value;

use super::{ATTEMPTS, BATCH, ErrorKind, Failure, SESSION};

/// What layers further in say of a call whose outcome is unknown, whatever the kind of its failure.
const UNKNOWN_OUTCOMES: [(&str, &str); 3] = [
    ("mcp-patterns/transaction", "outcome_unknown"),
    ("mcp-patterns/idempotency", "ambiguous"),
    // The backend of a session failed while it wrote.
    (SESSION, "unknowable"),
];

impl Failure<'_> {
    /// Says whether the failure proves that the call took no effect: it was refused before anything began.
    ///
    /// Only a refusal proves that: `invalid_params`, not found, not permitted, rejected by the user, or turned away
    /// (`rate_limited`, `server_overloaded`, `unavailable`). A timeout, a broken connection, a failing service, an internal error
    /// and a failure without a kind prove nothing. Neither does a refusal
    ///
    /// - that `?` made of a JSON or an IO error, which may come after the effect,
    /// - that is the last of several attempts further in,
    /// - that a layer further in marks as of unknown outcome.
    ///
    /// Every layer asks this: `IdempotentTool` frees the key of such a call, and `CachedTool` invalidates nothing for it.
    ///
    /// ```
    /// use mcp_patterns::outcome;
    /// use turbomcp::McpError;
    ///
    /// let refused = Ok(McpError::permission_denied("Only for editors").to_tool_result());
    /// assert!(outcome::failure(&refused).unwrap().is_not_executed());
    ///
    /// let lost = Ok(McpError::timeout("The bank does not answer").to_tool_result());
    /// assert!(!outcome::failure(&lost).unwrap().is_not_executed());
    /// ```
    #[must_use]
    pub fn is_not_executed(&self) -> bool {
        self.kind().is_some_and(is_refusal)
            && !is_converted(self.message())
            && self.noted(ATTEMPTS).and_then(Value::as_u64).unwrap_or(1) <= 1
            && UNKNOWN_OUTCOMES.iter().all(|(layer, word)| self.noted(layer).is_none_or(|noted| noted != word))
            && self.noted(BATCH).is_none_or(|batch| batch["outcome"] != "unknown")
    }
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
