//! A caller who leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use turbomcp_core::{Cancellable, RequestContext};

/// The token with which a caller cancels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Token(Arc<AtomicBool>);

impl Token {
    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn cancel_after(&self, after: Duration) {
        tokio::time::sleep(after).await;
        self.cancel();
    }

    /// The context of a call that this cancels.
    pub(crate) fn ctx(&self) -> RequestContext {
        RequestContext::new().with_cancellation_token(Arc::new(self.clone()))
    }
}

impl Cancellable for Token {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
