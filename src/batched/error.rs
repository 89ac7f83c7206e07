//! The errors that a batcher itself causes.

use std::time::Duration;

use turbomcp_core::McpError;
use turbomcp_core::error::ErrorKind;

use crate::outcome::{self, BATCH, RETRY_AFTER_MS, aborted, cancelled, marked, timed_out};

/// The error of an item, which the batcher itself can create too. [`McpError`](turbomcp_core::McpError) implements it.
///
/// Later versions may add methods that have a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a batcher",
    note = "map it to `turbomcp::McpError`, or implement `mcp_patterns::batched::BatchError` for your own type"
)]
pub trait BatchError: Clone + Send + Sync + 'static {
    /// Creates the error of an item that found the queue full. There may be room after `retry_after`.
    fn overloaded(retry_after: Duration) -> Self;
    /// Creates the error of an item whose batch took longer than its timeout, which was `after`.
    fn timed_out(after: Duration) -> Self;
    /// Creates the error of an item whose bulk function panicked, or whose runtime shut down.
    fn aborted() -> Self;
    /// Creates the error of an item whose bulk function returned a wrong number of results.
    fn miscounted() -> Self;
    /// Creates the error of an item whose caller was cancelled while it waited.
    fn cancelled() -> Self;
    /// Creates the error of an item that a batcher rejects because it was shut down.
    fn closed() -> Self;
    /// Returns whether a whole batch failed for a reason that no single item caused, such as an unavailable database. Such
    /// a batch is not [split](super::Batcher::split_failed_batches).
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

    fn aborted() -> Self {
        marked(BATCH, "aborted", aborted())
    }

    fn miscounted() -> Self {
        let sentence = "The batch got a wrong number of results, so they cannot be assigned to its calls";
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
