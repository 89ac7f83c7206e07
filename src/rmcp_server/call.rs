//! One request of a client: its context for the layers, and what the end of the stack needs of it.

use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;
use rmcp::RoleServer;
use rmcp::model::{InputResponses, ProgressToken, RequestId};
use rmcp::service::RequestContext as RmcpContext;
use serde_json::Value;
use tokio::sync::mpsc;
use turbomcp_core::{Cancellable, McpSession, Principal, RequestContext, TransportType};

use super::client::{Client, Question};
use super::connections::{Connection, Connections};
use super::convert::by_json;
use crate::identity::mark_instance;
use crate::scope::Scoped;

/// The header of the session of HTTP.
const SESSION_HEADER: &str = "mcp-session-id";

/// The entry of the metadata with the progress token, as the layers read it.
pub(super) const PROGRESS_TOKEN: &str = "io.turbomcp/progressToken";

/// The entry of `_meta` with the progress token.
const META_PROGRESS_TOKEN: &str = "progressToken";

/// Reads the principal of a request.
pub(super) type PrincipalOf = dyn Fn(&RmcpContext<RoleServer>) -> Option<Principal> + Send + Sync;

/// How the contexts of requests are made.
#[derive(Clone, Default)]
pub(super) struct Contexts {
    pub(super) principal: Option<Arc<PrincipalOf>>,
    pub(super) connections: Arc<Connections>,
    /// The number of this instance, where each session has its own.
    pub(super) instance: Option<u64>,
}

/// The answers of a client to the questions in an unfinished answer, and the state that the server gave it.
pub(super) type Continuation = (Option<InputResponses>, Option<String>);

/// One request, as the end of the stack finds it in whatever task it runs.
pub(super) struct Call {
    pub(super) ctx: RmcpContext<RoleServer>,
    pub(super) connection: Option<Arc<Connection>>,
    /// The session and the cancellation of the caller's own context.
    session: Arc<dyn McpSession>,
    cancellation: Arc<dyn Cancellable>,
    /// What came with the request besides its arguments.
    pub(super) continuation: Continuation,
}

impl Scoped for Call {
    fn is_continuation(&self) -> bool {
        self.continuation.0.is_some() || self.continuation.1.is_some()
    }
}

impl Contexts {
    /// Makes the context of a listing.
    pub(super) fn of_listing(&self, ctx: &RmcpContext<RoleServer>) -> RequestContext {
        self.context(ctx, self.connections.of(&ctx.peer).as_deref())
    }

    /// Makes the context of a request, and returns the questions to its client.
    pub(super) fn of_call(
        &self,
        ctx: RmcpContext<RoleServer>,
        continuation: Continuation,
    ) -> (RequestContext, Call, mpsc::UnboundedReceiver<Question>) {
        let connection = self.connections.of(&ctx.peer);
        let (client, questions) = Client::of_call(ctx.peer.clone());
        let session: Arc<dyn McpSession> = Arc::new(client);
        let cancellation: Arc<dyn Cancellable> = Arc::new(ctx.ct.clone());
        let mut own = self.context(&ctx, connection.as_deref()).with_cancellation_token(Arc::clone(&cancellation));
        own.session = Some(Arc::clone(&session));
        let call = Call { ctx, connection, session, cancellation, continuation };
        (own, call, questions)
    }

    fn context(&self, ctx: &RmcpContext<RoleServer>, connection: Option<&Connection>) -> RequestContext {
        let mut own = RequestContext::with_id(ctx.id.to_string());
        for (key, value) in &ctx.meta.0.0 {
            let key = if key == META_PROGRESS_TOKEN { PROGRESS_TOKEN } else { key };
            own.metadata.insert(key.to_owned(), value.clone());
        }
        match ctx.extensions.get::<Parts>() {
            Some(parts) => {
                own.transport = TransportType::Http;
                let header = parts.headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok());
                // Without a handshake there is no session, so the client has made the name up.
                own.session_id =
                    header.filter(|_| connection.is_some_and(Connection::has_handshake)).map(str::to_owned);
                // Each header is passed on, also one that is no text: whoever sends credentials is not anonymous.
                let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
                own.headers = Some(headers.collect());
            }
            None => own.session_id = connection.and_then(Connection::id).map(str::to_owned),
        }
        own.principal = self.principal.as_ref().and_then(|principal| principal(ctx));
        if let Some(instance) = self.instance {
            mark_instance(&mut own, instance);
        }
        own
    }
}

impl Call {
    /// Says whether layers see nothing of what the server and the client of this call tell each other.
    pub(super) fn has_own_client(&self, ctx: &RequestContext) -> bool {
        ctx.session.as_ref().is_some_and(|session| is_same(session, &self.session))
    }

    pub(super) fn has_own_cancellation(&self, ctx: &RequestContext) -> bool {
        ctx.cancellation_token.as_ref().is_some_and(|cancellation| is_same(cancellation, &self.cancellation))
    }
}

fn is_same<T: ?Sized>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::as_ptr(one).addr() == Arc::as_ptr(other).addr()
}

/// Makes the context of the server for a call of which layers see everything: its peer is not the client's own.
pub(super) fn seen_by_layers(
    call: Option<&Call>,
    ctx: &RequestContext,
    peer: rmcp::Peer<RoleServer>,
) -> RmcpContext<RoleServer> {
    let id = call.map_or_else(|| RequestId::String(ctx.request_id.as_str().into()), |call| call.ctx.id.clone());
    let mut own = RmcpContext::new(id, peer);
    match call {
        Some(call) => {
            own.ct = call.ctx.ct.clone();
            own.extensions = call.ctx.extensions.clone();
            own.meta = call.ctx.meta.clone();
        }
        None => own.meta.0.0.extend(ctx.metadata.iter().map(|(key, value)| (key.clone(), value.clone()))),
    }
    own.meta.0.0.remove(META_PROGRESS_TOKEN);
    if let Some(token) = ctx.progress_token().and_then(by_json::<Value, ProgressToken>) {
        own.meta.set_progress_token(token);
    }
    own
}
