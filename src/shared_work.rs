//! Work that several callers wait for, and that belongs to none of them.
//!
//! A [`Work`] is the state that the callers, the task of the work and the context of the call share. Each caller who waits is a
//! [`Caller`]. The client that the tool finds in its context is a [`ClientOfWork`](client::ClientOfWork).

mod caller;
mod client;
mod context;
mod listener;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turbomcp_core::RequestContext;

pub(crate) use self::caller::{Anybody, Caller, Waits};
pub(crate) use self::context::{SharedContext, context_of_starter};
pub(crate) use self::work::{Work, answered_from_cache, client_asked, session_opened};
use crate::identity::Partition;
use crate::{Identity, Scope};

/// A signal from one side of shared work to the other.
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

/// All sessions that a tool can open in a call: the transport's, and the one that a `SessionStore` found. A call without a session
/// shares none with another call.
#[derive(Debug, Clone)]
pub(crate) struct SessionOfCall(Option<Arc<[u8]>>);

impl SessionOfCall {
    /// Must run in the task of the call.
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
