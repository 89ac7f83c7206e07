//! The text that a caller reads of an error that is a part of an answer.

use turbomcp_core::{ErrorKind, McpError};

use crate::masked::error_id;

/// Returns whether errors of this kind address the caller, so that their texts are written for it.
///
/// The text of any other error may come from a driver, with an address or a statement in it.
const fn addresses_the_caller(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidParams
            | ErrorKind::InvalidRequest
            | ErrorKind::ResourceNotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::UserRejected
    )
}

/// The sentence that the caller may read, and the id under which the log has the error.
pub(super) struct Masked {
    pub(super) sentence: String,
    pub(super) id: String,
}

/// Masks the error of the source or step `of`.
pub(super) fn mask(of: &str, error: &McpError) -> Masked {
    let id = error_id();
    let sentence = match error.kind {
        kind if addresses_the_caller(kind) => error.message.clone(),
        ErrorKind::Timeout => format!("`{of}` did not answer in time (error {id})"),
        ErrorKind::Unavailable | ErrorKind::Transport | ErrorKind::ExternalService | ErrorKind::ServerOverloaded => {
            format!("`{of}` is not available at the moment (error {id})")
        }
        ErrorKind::RateLimited => format!("`{of}` is asked too often at the moment (error {id})"),
        ErrorKind::Cancelled => format!("`{of}` was cancelled (error {id})"),
        _ => format!("`{of}` failed (error {id})"),
    };
    Masked { sentence, id }
}
