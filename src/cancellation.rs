//! The end of a wait whose caller cancels.

use std::time::Duration;

use turbomcp_core::RequestContext;

/// Reports whether the caller who waits for work has cancelled.
///
/// A [`RequestContext`] is one. Use `()` for work that is never cancelled. A later version may add methods with a default.
pub trait Cancellation: Sync {
    /// Says whether the work was cancelled.
    fn is_cancelled(&self) -> bool;

    /// Says whether the work can be cancelled at all.
    fn is_cancellable(&self) -> bool {
        true
    }

    /// Returns the call that the work is for, if there is one. Its caller has a share of the bounded resources.
    fn call(&self) -> Option<&RequestContext> {
        None
    }
}

impl Cancellation for RequestContext {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }

    fn is_cancellable(&self) -> bool {
        self.cancellation_token.is_some()
    }

    fn call(&self) -> Option<&RequestContext> {
        Some(self)
    }
}

impl Cancellation for () {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn is_cancellable(&self) -> bool {
        false
    }
}

/// turbomcp's cancellation token can only be polled. A wait notices a cancellation after at most this time.
const POLL: Duration = Duration::from_millis(50);

/// Waits until the work is cancelled, or forever.
pub(crate) async fn cancelled(cancellation: &impl Cancellation) {
    if !cancellation.is_cancellable() {
        return std::future::pending().await;
    }
    while !cancellation.is_cancelled() {
        tokio::time::sleep(POLL).await;
    }
}
