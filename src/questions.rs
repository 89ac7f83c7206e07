//! Records whether a call has asked its client a question: then no layer repeats the call, so that no person is asked twice.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use crate::shared_work::Flag;

/// A call whose questions to its client are recorded, from any task.
#[derive(Debug)]
pub(crate) struct Questions {
    ctx: RequestContext,
    asked: Flag,
}

impl Questions {
    /// Returns `None` if there is no client to ask: then the call needs no context of its own. Boxed, so that such a call
    /// stays small.
    pub(crate) fn of(ctx: &RequestContext) -> Option<Box<Self>> {
        let inner = Arc::clone(ctx.session()?);
        let (mut ctx, asked) = (ctx.clone(), Flag::default());
        ctx.set_session(Arc::new(NotingSession { inner, asked: asked.clone() }));
        Some(Box::new(Self { ctx, asked }))
    }

    /// The context for the inner handler.
    pub(crate) fn ctx(&self) -> &RequestContext {
        &self.ctx
    }

    /// Says whether a question was sent. It may still be open.
    pub(crate) fn were_asked(&self) -> bool {
        self.asked.is_set()
    }
}

/// The caller's session, as the inner handler sees it.
#[derive(Debug)]
struct NotingSession {
    inner: Arc<dyn McpSession>,
    asked: Flag,
}

impl McpSession for NotingSession {
    fn client_capabilities<'a>(&'a self) -> SessionFuture<'a, Option<ClientCapabilities>> {
        self.inner.client_capabilities()
    }

    fn protocol_version<'a>(&'a self) -> SessionFuture<'a, Option<ProtocolVersion>> {
        self.inner.protocol_version()
    }

    fn call<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, Value> {
        // A client answers these itself, without a person and at no cost.
        if !matches!(method, "roots/list" | "ping") {
            self.asked.set();
        }
        self.inner.call(method, params)
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        self.inner.notify(method, params)
    }
}
