//! The context that a tool gets in a call that several may wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use turbomcp_core::{Cancellable, RequestContext};

use super::client::ClientOfWork;
use super::work::Work;

/// Makes the context of a call that only the starter waits for, though not alone.
pub(crate) fn context_of_starter(work: &Arc<Work>, mut ctx: RequestContext) -> RequestContext {
    if let Some(session) = ctx.session.take() {
        let token = ctx.progress_token().cloned();
        ctx.session = Some(Arc::new(ClientOfWork::new(Some(session), token, Arc::clone(work))));
    }
    ctx.with_cancellation_token(Arc::new(OfStarter(Arc::clone(work))))
}

/// Work that is cancelled when its starter leaves.
#[derive(Debug)]
struct OfStarter(Arc<Work>);

impl Cancellable for OfStarter {
    fn is_cancelled(&self) -> bool {
        self.0.has_no_starter()
    }
}

/// The context of a call that several may wait for: of the starter, but not theirs to cancel, and with a progress token that stands
/// for those of all who wait. Dropped when the call has ended.
#[derive(Debug)]
pub(crate) struct SharedContext {
    pub(crate) ctx: RequestContext,
    work: Arc<Work>,
}

impl SharedContext {
    pub(crate) fn new(mut ctx: RequestContext, work: &Arc<Work>, cancellation: Arc<dyn Cancellable>) -> Self {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let token = Value::from(TOKENS.fetch_add(1, Ordering::Relaxed));
        let session = ClientOfWork::new(ctx.session.take(), Some(token.clone()), Arc::clone(work));
        ctx.session = Some(Arc::new(session));
        let ctx = ctx.with_progress_token(token).with_cancellation_token(cancellation);
        Self { ctx, work: Arc::clone(work) }
    }
}

impl Drop for SharedContext {
    fn drop(&mut self) {
        self.work.end();
        if self.work.has_reported() {
            // The router forgets what it remembers of the starter's token, not of this one.
            self.ctx.end_progress();
        }
    }
}
