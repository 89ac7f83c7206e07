//! What a server tells its client about resources and prompts, heard on its way: whoever is told reads again, and must not find what was
//! kept.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{McpSession, RequestContext, SessionFuture};
use turbomcp_types::{ClientCapabilities, ProtocolVersion};

use super::call::Results;
use super::invalidation::Dirt;
use super::key::{Kind, all_key, resource_key};
use crate::cached::first_level::invalidation_key::InvalidationKey;

/// The context in which a handler is asked. Where the cache `hears` what is told, its session is one that does; a context without
/// a session stays as it is.
pub(in crate::cached) fn heard<'a>(hears: bool, results: &Results, ctx: &'a RequestContext) -> Cow<'a, RequestContext> {
    if !hears || !ctx.has_session() {
        return Cow::Borrowed(ctx);
    }
    let mut heard = ctx.clone();
    hear(results, &mut heard);
    Cow::Owned(heard)
}

/// Puts a session that hears in the place of the one that there is.
pub(in crate::cached) fn hear(results: &Results, ctx: &mut RequestContext) {
    if let Some(inner) = ctx.session().cloned() {
        let mount = ctx.scoped_resource_uri(String::new());
        ctx.set_session(Arc::new(HeardSession { inner, results: results.clone(), mount }));
    }
}

/// The caller's session, as a handler below the cache sees it.
#[derive(Debug)]
struct HeardSession {
    inner: Arc<dyn McpSession>,
    results: Results,
    /// What a composite server above the cache puts in front of a URI for the client.
    mount: String,
}

impl HeardSession {
    /// What a notification says is wrong.
    fn made_wrong(&self, method: &str, params: &Value) -> Option<InvalidationKey> {
        match method {
            "notifications/resources/updated" => {
                let uri = params.get("uri")?.as_str()?;
                Some(resource_key(uri.strip_prefix(self.mount.as_str()).unwrap_or(uri)))
            }
            // One that is gone is read no more, and one that is new is not refused because it was not found before.
            "notifications/resources/list_changed" => Some(all_key(Kind::Resource)),
            // No other notification says that the text of a prompt has changed.
            "notifications/prompts/list_changed" => Some(all_key(Kind::Prompt)),
            // `tools/list_changed` is about definitions, of which nothing is kept here: a result is what the tool has answered.
            _ => None,
        }
    }
}

impl McpSession for HeardSession {
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
        let Some(key) = self.made_wrong(method, &params) else { return self.inner.notify(method, params) };
        let dirt = Dirt::new(&self.results, vec![key]);
        Box::pin(async move {
            tracing::debug!(method, "a notification invalidates");
            dirt.forget_now().await;
            self.inner.notify(method, params).await
        })
    }
}
