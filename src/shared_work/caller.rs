//! The callers who wait for shared work.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, join, select};
use tokio::sync::Notify;
use tokio::time::sleep;
use turbomcp_core::RequestContext;

use super::listener::{Listener, Note};
use super::work::{Work, answered_from_cache};
use crate::cancellation::{Cancellation, cancelled};
use crate::progress::{Attempt, Progress};
use crate::{Identity, Scope};

/// How long notifications may delay the result on a slow connection.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A caller who waits for shared work.
pub(crate) trait Waits: Sync {
    fn is_cancelled(&self) -> bool;

    /// Returns the call that the work is for, if there is one.
    fn call(&self) -> Option<&RequestContext>;

    /// Runs when there is work to wait for.
    fn join(&self, work: &Work);

    /// Runs when the caller gets an answer that was loaded for an earlier call, with this stamp.
    fn gets_from_cache(&self, stamp: u64);

    /// Waits for the end of the work, or returns `None` when the caller is cancelled first. By reference, since each function that
    /// takes a future by value would store it once more.
    fn wait<T: Send>(&self, end: Pin<&mut (impl Future<Output = T> + Send)>) -> impl Future<Output = Option<T>> + Send;
}

/// A caller who gets only the end of the work.
pub(crate) struct Anybody<'a, C>(pub(crate) &'a C);

impl<C: Cancellation> Waits for Anybody<'_, C> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn call(&self) -> Option<&RequestContext> {
        self.0.call()
    }

    fn join(&self, _: &Work) {}

    fn gets_from_cache(&self, _: u64) {}

    async fn wait<T: Send>(&self, end: Pin<&mut (impl Future<Output = T> + Send)>) -> Option<T> {
        unless_cancelled(self.0, end).await
    }
}

/// Waits for `end`, or returns `None` when the caller is cancelled first.
async fn unless_cancelled<T>(cancellation: &impl Cancellation, end: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match select(end, pin!(cancelled(cancellation))).await {
        Either::Left((end, _)) => Some(end),
        Either::Right(((), _)) => None,
    }
}

/// The caller of a request, who also gets notifications of the work. Its drop before the end of the work is a cancellation.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    ctx: &'a RequestContext,
    /// Distinguishes principals, where several of them may wait.
    principals: Option<&'a Identity>,
    listener: OnceLock<Arc<Listener>>,
    /// The work that the caller has begun.
    begun: OnceLock<Arc<Work>>,
    has_end: AtomicBool,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(ctx: &'a RequestContext, scope: Scope, identity: &'a Identity) -> Self {
        let principals = (scope == Scope::Public).then_some(identity);
        let has_end = AtomicBool::new(false);
        Self { ctx, principals, listener: OnceLock::new(), begun: OnceLock::new(), has_end }
    }

    pub(crate) fn ctx(&self) -> &'a RequestContext {
        self.ctx
    }

    /// Begins work as this caller.
    pub(crate) fn begin(&self, work: &Arc<Work>) {
        // Set once: a caller begins one piece of work.
        let _ = self.begun.set(Arc::clone(work));
        if let Some(principal) = self.principal() {
            work.begin_as(principal);
        }
        if let Some(listener) = self.listener() {
            work.listen(listener, true);
        }
    }

    /// Notes that the caller has not got the end of the work.
    pub(crate) fn leave(&self) {
        self.has_end.store(false, Ordering::Relaxed);
    }

    /// Waits for work that this caller has begun, and for which no other caller waits now.
    pub(crate) async fn wait_alone<T: Send>(&self, mut end: BoxFuture<'static, T>) -> Option<T> {
        self.leave();
        self.wait(Pin::new(&mut end)).await
    }

    /// Returns the context of a call that continues the progress of the shared work, or `None` if no progress was reported.
    pub(crate) fn context_from_here(&self) -> Option<Attempt> {
        let progress = self.listener.get()?.progress()?;
        (progress.reached() > 0.0).then(|| progress.attempt(self.ctx))
    }

    fn listener(&self) -> Option<&Arc<Listener>> {
        let listener = || Arc::new(Listener::new(Progress::wanted(self.ctx)));
        self.ctx.has_session().then(|| self.listener.get_or_init(listener))
    }

    fn principal(&self) -> Option<Vec<u8>> {
        static UNKNOWN: AtomicU64 = AtomicU64::new(0);
        let Some(partition) = self.principals?.partition(Scope::Principal, self.ctx) else {
            // Nobody's work is that of an unknown caller.
            return Some(UNKNOWN.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec());
        };
        let mut principal = Vec::with_capacity(partition.size_hint());
        partition.encode_with_rights(&mut principal);
        Some(principal)
    }

    fn wait_for<T: Send>(
        &self,
        end: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> impl Future<Output = Option<T>> + Send {
        unless_cancelled(self.ctx, end).inspect(|end| self.has_end.store(end.is_some(), Ordering::Relaxed))
    }

    async fn wait_and_hear<T: Send>(
        &self,
        listener: &Listener,
        end: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> Option<T> {
        listener.open();
        let closed = Notify::new();
        let ended = async {
            let end = self.wait_for(end).await;
            listener.close();
            closed.notify_one();
            end
        };
        let told = async {
            while let Some(note) = listener.next().await {
                self.send(note).await;
            }
        };
        let too_slow = async {
            closed.notified().await;
            // No notification follows the result, and the result does not wait long. A cancelled caller does not wait at all.
            if self.has_end.load(Ordering::Relaxed) {
                sleep(FLUSH_TIMEOUT).await;
            }
        };
        join(ended, select(pin!(too_slow), pin!(told))).await.0
    }

    /// Sends a notification to the caller.
    async fn send(&self, note: Note) {
        let Some(session) = self.ctx.session() else { return };
        // A lost connection is the caller's concern, and does not affect the work.
        let _ = match note {
            Note::Progress(mut params) => {
                let Some(token) = self.ctx.progress_token() else { return };
                params["progressToken"] = token.clone();
                session.notify(crate::progress::METHOD, params).await
            }
            Note::Log(params) => {
                let level = params["level"].as_str().unwrap_or_default();
                // For the starter, turbomcp has checked that.
                let is_wanted =
                    self.begun.get().is_some() || (self.ctx.wants_log(level) && self.ctx.admit_log().is_some());
                if !is_wanted {
                    return;
                }
                session.notify("notifications/message", params).await
            }
        };
    }
}

impl Waits for Caller<'_> {
    fn is_cancelled(&self) -> bool {
        self.ctx.is_cancelled()
    }

    fn call(&self) -> Option<&RequestContext> {
        Some(self.ctx)
    }

    fn join(&self, work: &Work) {
        if self.begun.get().is_none()
            && let Some(listener) = self.listener()
        {
            let principal = self.principal();
            work.listen(listener, principal.is_none_or(|principal| work.is_begun_by(&principal)));
        }
    }

    fn gets_from_cache(&self, stamp: u64) {
        answered_from_cache(stamp);
    }

    fn wait<T: Send>(&self, end: Pin<&mut (impl Future<Output = T> + Send)>) -> impl Future<Output = Option<T>> + Send {
        match self.listener.get() {
            None => Either::Left(self.wait_for(end)),
            // Boxed, so that a caller without notifications stores no more than the wait.
            Some(listener) => Either::Right(Box::pin(self.wait_and_hear(listener, end))),
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if let Some(work) = self.begun.get()
            && !self.has_end.load(Ordering::Relaxed)
        {
            work.leave();
        }
    }
}
