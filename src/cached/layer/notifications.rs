//! The notifications of a server to its client about resources and prompts. They invalidate before the client gets them, since it reads
//! again at once.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use super::invalidation::PendingInvalidation;
use super::key::{Kind, all_key, resource_key};
use super::plan::Results;
use crate::cached::first_level::invalidation_key::InvalidationKey;

/// The context for a handler. If the cache `observes` notifications, its session is an [`ObservedSession`]; a context without a session
/// stays as it is.
pub(in crate::cached) fn observed<'a>(
    observes: bool,
    results: &Results,
    ctx: &'a RequestContext,
) -> Cow<'a, RequestContext> {
    if !observes || !ctx.has_session() {
        return Cow::Borrowed(ctx);
    }
    let mut observed = ctx.clone();
    observe(results, &mut observed);
    Cow::Owned(observed)
}

/// Replaces the session of a context by an observed one.
pub(in crate::cached) fn observe(results: &Results, ctx: &mut RequestContext) {
    if let Some(inner) = ctx.session().cloned() {
        let mount = ctx.scoped_resource_uri(String::new());
        ctx.set_session(Arc::new(ObservedSession { inner, results: results.clone(), mount }));
    }
}

/// The session of the caller, as a handler below the cache sees it.
#[derive(Debug)]
struct ObservedSession {
    inner: Arc<dyn McpSession>,
    results: Results,
    /// The prefix that a composite server above the cache puts in front of a URI for the client.
    mount: String,
}

impl ObservedSession {
    /// The key that a notification invalidates.
    fn invalidated(&self, method: &str, params: &Value) -> Option<InvalidationKey> {
        match method {
            "notifications/resources/updated" => {
                let uri = params.get("uri")?.as_str()?;
                Some(resource_key(uri.strip_prefix(self.mount.as_str()).unwrap_or(uri)))
            }
            // A removed resource is not read from the cache, and a new one is not refused because it was not found before.
            "notifications/resources/list_changed" => Some(all_key(Kind::Resource)),
            // There is no other notification for a prompt whose text has changed.
            "notifications/prompts/list_changed" => Some(all_key(Kind::Prompt)),
            // `tools/list_changed` is about definitions, which are not kept here.
            _ => None,
        }
    }
}

impl McpSession for ObservedSession {
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
        let Some(key) = self.invalidated(method, &params) else { return self.inner.notify(method, params) };
        let pending = PendingInvalidation::new(&self.results, vec![key]);
        Box::pin(async move {
            tracing::debug!(method, "a notification invalidates");
            pending.apply_now().await;
            self.inner.notify(method, params).await
        })
    }
}
