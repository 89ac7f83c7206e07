use std::time::Duration;

use turbomcp_core::McpError;

use crate::outcome::{CACHE, Failure, cancelled, lost, marked, timed_out};

/// An error that can say that a load came to nothing. [`McpError`](turbomcp_core::McpError) can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached load",
    note = "map it to `turbomcp::McpError`, or implement `mcp_patterns::cached::LoadError` for a type of your own"
)]
pub trait LoadError: Clone + Send + Sync + 'static {
    /// The load took longer than the cache allows.
    fn timed_out(after: Duration) -> Self;
    /// The load panicked, or its runtime shut down.
    fn lost() -> Self;
    /// The caller was cancelled while it waited.
    fn cancelled() -> Self;

    /// Says whether a value past its ttl may be served instead: the source has failed, and has not said that there is nothing or
    /// that the caller may not have it. Default: yes.
    fn allows_stale(&self) -> bool {
        true
    }

    /// Notes that the error is told again, `age` after the load that failed.
    #[must_use]
    fn told_again(self, age: Duration) -> Self {
        let _ = age;
        self
    }
}

impl LoadError for McpError {
    fn timed_out(after: Duration) -> Self {
        marked(CACHE, "timed_out", timed_out(after))
    }

    fn lost() -> Self {
        marked(CACHE, "lost", lost())
    }

    fn cancelled() -> Self {
        marked(CACHE, "cancelled", cancelled())
    }

    fn allows_stale(&self) -> bool {
        Failure::of_error(self).is_outage()
    }
}
