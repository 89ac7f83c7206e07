//! Records whether a call has asked its client a question: then no layer repeats the call, so that no person is asked twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

/// A call whose questions to its client are recorded, from any task.
#[derive(Debug)]
pub(crate) struct Questions {
    ctx: RequestContext,
    sent: Arc<Sent>,
}

/// What was sent to the client.
#[derive(Debug, Default)]
struct Sent {
    question: AtomicBool,
    request: AtomicBool,
}

impl Questions {
    /// Returns `None` if there is no client to ask: then the call needs no context of its own. Boxed, so that such a call
    /// stays small.
    pub(crate) fn of(ctx: &RequestContext) -> Option<Box<Self>> {
        let inner = Arc::clone(ctx.session()?);
        let (mut ctx, sent) = (ctx.clone(), Arc::<Sent>::default());
        ctx.set_session(Arc::new(NotingSession { inner, sent: Arc::clone(&sent) }));
        Some(Box::new(Self { ctx, sent }))
    }

    /// The context for the inner handler.
    pub(crate) fn ctx(&self) -> &RequestContext {
        &self.ctx
    }

    /// Says whether a question was sent. It may still be open.
    pub(crate) fn were_asked(&self) -> bool {
        self.sent.question.load(Ordering::Acquire)
    }

    /// Says whether any request was sent: the client may be the one that does not answer.
    pub(crate) fn needed_the_client(&self) -> bool {
        self.sent.request.load(Ordering::Acquire)
    }
}

/// The caller's session, as the inner handler sees it.
#[derive(Debug)]
struct NotingSession {
    inner: Arc<dyn McpSession>,
    sent: Arc<Sent>,
}

impl McpSession for NotingSession {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        self.inner.client_capabilities()
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        self.inner.protocol_version()
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        self.sent.request.store(true, Ordering::Release);
        // A client answers these itself, without a person and at no cost.
        if !matches!(method, "roots/list" | "ping") {
            self.sent.question.store(true, Ordering::Release);
        }
        self.inner.call(method, params)
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        self.inner.notify(method, params)
    }
}
