//! Work that several callers wait for, and that belongs to none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turbomcp_core::{Cancellable, RequestContext};

use crate::identity::Partition;
use crate::{Identity, Scope};

/// Becomes true when shared work is given up: the last one who waited for it has left, or it took too long.
pub(crate) type Abandoned = Flag;

/// What one side of shared work tells the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Cancellable for Flag {
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

/// Says whether the call runs inside a transaction: then it may see what nobody else may see yet, and shared work would run
/// outside it.
pub(crate) fn is_in_transaction() -> bool {
    #[cfg(feature = "transactional")]
    return crate::transactional::is_entered();
    #[cfg(not(feature = "transactional"))]
    return false;
}

/// Every session that a tool can open in a call: the transport's, and the one that a `SessionStore` found. A call that has none
/// is in nobody else's.
#[derive(Debug, Clone)]
pub(crate) struct SessionOfCall(Option<Arc<[u8]>>);

impl SessionOfCall {
    /// Asked in the task of the call.
    pub(crate) fn of(identity: &Identity, ctx: &RequestContext) -> Self {
        let encode = |session: Partition<'_>| {
            let mut encoded = Vec::new();
            session.encode(&mut encoded);
            encoded.into()
        };
        Self(identity.partition(Scope::Session, ctx).map(encode))
    }

    pub(crate) fn is_that_of(&self, other: &Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }
}
