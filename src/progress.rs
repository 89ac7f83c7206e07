//! Progress of a call that keeps rising, also when the work starts over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

/// The method of the notifications.
pub(crate) const METHOD: &str = "notifications/progress";

/// The progress that a caller has received so far. Clones share it.
///
/// The specification requires that `progress` [increases with each notification][spec]. Work that starts over counts from the
/// beginning again: its progress is added to the highest progress before, and so is its total.
///
/// [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/progress
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    highest: Arc<Mutex<Option<f64>>>,
}

impl Progress {
    /// Returns `None` if the client wants no progress: then the work needs no context of its own.
    pub(crate) fn wanted(ctx: &RequestContext) -> Option<Self> {
        (ctx.wants_progress() && ctx.has_session()).then(Self::default)
    }

    /// Returns the highest progress so far, from which work that begins now continues.
    pub(crate) fn reached(&self) -> f64 {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(0.0).max(0.0)
    }

    /// Adds `base`, the progress at which the work began, to a report. Returns `None` for one that does not exceed the highest progress.
    pub(crate) fn raise(&self, base: f64, mut params: Value) -> Option<Value> {
        let progress = base + params.get("progress")?.as_f64()?;
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.is_some_and(|highest| progress <= highest) {
            return None;
        }
        *highest = Some(progress);
        drop(highest);
        if base > 0.0 {
            params["progress"] = progress.into();
            if let Some(total) = params.get("total").and_then(Value::as_f64) {
                params["total"] = (base + total).into();
            }
        }
        Some(params)
    }

    /// Creates the context of work that begins now.
    pub(crate) fn attempt(&self, ctx: &RequestContext) -> Attempt {
        let mut attempt = ctx.clone();
        let session = ctx.session().cloned().zip(ctx.progress_token().cloned()).map(|(inner, token)| {
            // turbomcp drops what does not exceed the last value of the request, before the session sees it.
            ctx.end_progress();
            let (base, progress) = (self.reached(), self.clone());
            Arc::new(AttemptSession { inner, token, base, progress, has_ended: AtomicBool::new(false) })
        });
        if let Some(session) = &session {
            attempt.set_session(Arc::clone(session) as _);
        }
        Attempt { ctx: attempt, session }
    }
}

/// The context of work that reports progress to one caller. Reports after its end are dropped.
pub(crate) struct Attempt {
    pub(crate) ctx: RequestContext,
    session: Option<Arc<AttemptSession>>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.has_ended.store(true, Ordering::Release);
        }
    }
}

/// The caller's session, as one attempt sees it.
#[derive(Debug)]
struct AttemptSession {
    inner: Arc<dyn McpSession>,
    token: Value,
    base: f64,
    progress: Progress,
    has_ended: AtomicBool,
}

impl McpSession for AttemptSession {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        self.inner.client_capabilities()
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        self.inner.protocol_version()
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        self.inner.call(method, params)
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        if method != METHOD || params.get("progressToken") != Some(&self.token) {
            return self.inner.notify(method, params);
        }
        let has_ended = self.has_ended.load(Ordering::Acquire);
        match (!has_ended).then(|| self.progress.raise(self.base, params)).flatten() {
            Some(params) => self.inner.notify(method, params),
            None => Box::pin(async { Ok(()) }),
        }
    }
}
