//! Progress that keeps rising when a tool starts over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

/// What the caller was told so far, over all attempts.
///
/// The specification wants `progress` to [increase with each notification][spec]. A tool that starts over counts from the
/// beginning again: what it reports is added to what was reached before, and so is its total.
///
/// [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/progress
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    highest: Arc<Mutex<Option<f64>>>,
}

/// The context of one attempt. Progress that the tool reports after it ends goes nowhere.
pub(super) struct Attempt {
    pub(super) ctx: RequestContext,
    open: Arc<AtomicBool>,
}

impl Progress {
    /// Returns `None` where nobody listens: then the attempts need no context of their own.
    pub(super) fn wanted(ctx: &RequestContext) -> Option<Self> {
        (ctx.wants_progress() && ctx.has_session()).then(Self::default)
    }

    pub(super) fn attempt(&self, ctx: &RequestContext) -> Attempt {
        let open = Arc::new(AtomicBool::new(true));
        let mut attempt = ctx.clone();
        if let (Some(inner), Some(token)) = (ctx.session().cloned(), ctx.progress_token().cloned()) {
            let base = self.highest.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(0.0).max(0.0);
            // turbomcp drops what does not exceed the last value of the request, before the session sees it.
            ctx.end_progress();
            attempt.set_session(Arc::new(AttemptSession {
                inner,
                token,
                base,
                open: Arc::clone(&open),
                highest: Arc::clone(&self.highest),
            }));
        }
        Attempt { ctx: attempt, open }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Release);
    }
}

/// The caller's session, as one attempt sees it.
#[derive(Debug)]
struct AttemptSession {
    inner: Arc<dyn McpSession>,
    token: Value,
    base: f64,
    open: Arc<AtomicBool>,
    highest: Arc<Mutex<Option<f64>>>,
}

impl AttemptSession {
    /// Moves a progress report to where the call stands, or drops one that says nothing new.
    fn raise(&self, mut params: Value) -> Option<Value> {
        let reported = params.get("progress")?.as_f64()?;
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        let progress = self.base + reported;
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.is_some_and(|highest| progress <= highest) {
            return None;
        }
        *highest = Some(progress);
        drop(highest);
        if self.base > 0.0 {
            params["progress"] = progress.into();
            if let Some(total) = params.get("total").and_then(Value::as_f64) {
                params["total"] = (self.base + total).into();
            }
        }
        Some(params)
    }
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
        if method != "notifications/progress" || params.get("progressToken") != Some(&self.token) {
            return self.inner.notify(method, params);
        }
        match self.raise(params) {
            Some(params) => self.inner.notify(method, params),
            None => Box::pin(async { Ok(()) }),
        }
    }
}
