//! What comes back from a bulk function, and the errors that only a batcher can cause.

use std::time::Duration;

use turbomcp_core::McpError;
use turbomcp_core::error::ErrorKind;

use crate::outcome::{self, BATCH, RETRY_AFTER_MS, cancelled, lost, marked, timed_out};

/// What a bulk function returns: a result for each item, in the order of the items; or one error, which goes to all of them.
///
/// `Vec<Result<V, E>>` and `Result<Vec<Result<V, E>>, E>` are answers.
#[diagnostic::on_unimplemented(
    message = "a bulk function cannot return `{Self}`",
    note = "it returns a result for each item, in their order: `Vec<Result<V, E>>`",
    note = "or that or one error for all items, so that `?` works in it: `Result<Vec<Result<V, E>>, E>`"
)]
pub trait Answers<V, E> {
    /// Returns the results, or the error of all.
    ///
    /// # Errors
    ///
    /// What the bulk function failed with as a whole.
    fn into_results(self) -> Result<Vec<Result<V, E>>, E>;
}

impl<V, E> Answers<V, E> for Vec<Result<V, E>> {
    fn into_results(self) -> Result<Vec<Result<V, E>>, E> {
        Ok(self)
    }
}

impl<V, E> Answers<V, E> for Result<Vec<Result<V, E>>, E> {
    fn into_results(self) -> Result<Vec<Result<V, E>>, E> {
        self
    }
}

/// An error that can say what becomes of an item besides what the bulk function says. [`McpError`](turbomcp_core::McpError) can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a batcher",
    note = "map it to `turbomcp::McpError`, or implement `mcp_patterns::batched::BatchError` for a type of your own"
)]
pub trait BatchError: Clone + Send + Sync + 'static {
    /// The queue is full. There may be room after this time.
    fn overloaded(retry_after: Duration) -> Self;
    /// The batch took longer than it may.
    fn timed_out(after: Duration) -> Self;
    /// The bulk function panicked, or its runtime shut down.
    fn lost() -> Self;
    /// The bulk function returned another number of results than it got items.
    fn miscounted() -> Self;
    /// The caller was cancelled while it waited.
    fn cancelled() -> Self;
    /// The batcher was shut down.
    fn closed() -> Self;
    /// Says whether the whole batch failed for a reason that no single item is to blame for, such as a database that is
    /// down. Such a batch is not [split](super::Batcher::split_failed_batches).
    fn is_temporary(&self) -> bool;
}

impl BatchError for McpError {
    fn overloaded(retry_after: Duration) -> Self {
        let retry_after = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        Self::new(ErrorKind::ServerOverloaded, "Too many calls are waiting; try again later")
            .with_data(serde_json::json!({ RETRY_AFTER_MS: retry_after, BATCH: "overloaded" }))
    }

    fn timed_out(after: Duration) -> Self {
        marked(BATCH, "timed_out", timed_out(after))
    }

    fn lost() -> Self {
        marked(BATCH, "lost", lost())
    }

    fn miscounted() -> Self {
        let sentence = "A batch of calls was answered with a wrong number of results, so nobody knows which is whose";
        marked(BATCH, "miscounted", Self::internal(sentence))
    }

    fn cancelled() -> Self {
        marked(BATCH, "cancelled", cancelled())
    }

    fn closed() -> Self {
        marked(BATCH, "closed", Self::unavailable("The server is shutting down"))
    }

    fn is_temporary(&self) -> bool {
        outcome::is_temporary(self.kind)
    }
}
