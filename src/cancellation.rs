//! How a wait ends when its caller goes away.

use std::time::Duration;

use turbomcp_core::RequestContext;

/// Says whether whoever waits for the work has gone.
///
/// A [`RequestContext`] does; `()` is for work that nobody cancels.
pub trait Cancellation: Sync {
    /// Says whether the work was cancelled.
    fn is_cancelled(&self) -> bool;

    /// Says whether the work can be cancelled at all.
    fn is_cancellable(&self) -> bool {
        true
    }

    /// Returns the call that the work is for, where it is for one: who makes it has a share of what is bounded for all.
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

/// turbomcp's cancellation token can only be polled: this is how late a wait may notice it.
const POLL: Duration = Duration::from_millis(50);

/// Waits until the work is cancelled, for ever if it never is.
pub(crate) async fn cancelled(cancellation: &impl Cancellation) {
    if !cancellation.is_cancellable() {
        return std::future::pending().await;
    }
    while !cancellation.is_cancelled() {
        tokio::time::sleep(POLL).await;
    }
}
