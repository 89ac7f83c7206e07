//! Work that several callers wait for, and that belongs to none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turbomcp_core::{Cancellable, RequestContext};

/// Becomes true when shared work is given up: the last one who waited for it has left, or it took too long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Cancellable for Abandoned {
    fn is_cancelled(&self) -> bool {
        self.is_set()
    }
}

/// The context of a call that several may wait for: of whoever came first, but not theirs to cancel or to follow.
pub(crate) fn shared_context(ctx: &RequestContext, abandoned: Abandoned) -> RequestContext {
    /// Where turbomcp keeps the token of who wants to hear of progress.
    const PROGRESS_TOKEN: &str = "io.turbomcp/progressToken";
    let mut shared = ctx.clone().with_cancellation_token(Arc::new(abandoned));
    shared.metadata.remove(PROGRESS_TOKEN);
    shared
}
