use std::time::Duration;

use turbomcp_core::McpError;

use crate::outcome::{CACHE, Failure, aborted, cancelled, marked, timed_out};

/// An error type of loads: the cache creates its own errors with it. [`McpError`](turbomcp_core::McpError) implements it.
///
/// A later version adds methods only with a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached load",
    note = "map it to `turbomcp::McpError`, or implement `mcp_patterns::cached::LoadError` for a type of your own"
)]
pub trait LoadError: Clone + Send + Sync + 'static {
    /// Creates the error of a load that took longer than the load timeout.
    fn timed_out(after: Duration) -> Self;
    /// Creates the error of a load that ended without a result: it panicked, or its runtime shut down.
    fn aborted() -> Self;
    /// Creates the error of a caller who was cancelled while it waited.
    fn cancelled() -> Self;

    /// Says whether a value past its ttl may be served instead: yes if the source has failed, no if it has answered that the value
    /// does not exist or that the caller may not have it. Default: yes.
    fn allows_stale(&self) -> bool {
        true
    }

    /// Adds the age of an error that was kept: the time since the load that failed. Default: returns the error as it is.
    #[must_use]
    fn with_age(self, age: Duration) -> Self {
        let _ = age;
        self
    }
}

impl LoadError for McpError {
    fn timed_out(after: Duration) -> Self {
        marked(CACHE, "timed_out", timed_out(after))
    }

    fn aborted() -> Self {
        marked(CACHE, "aborted", aborted())
    }

    fn cancelled() -> Self {
        marked(CACHE, "cancelled", cancelled())
    }

    fn allows_stale(&self) -> bool {
        Failure::of_error(self).is_outage()
    }
}
