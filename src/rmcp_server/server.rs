//! A server of rmcp at the end of a stack: [`RmcpServer`].

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use rmcp::model::{ErrorCode, PaginatedRequestParams, RequestId, Tool};
use rmcp::service::RequestContext as RmcpContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tokio::runtime::Handle;
use turbomcp_core::{McpError, McpSession, Principal, SessionFuture};
use turbomcp_types as own;

use super::call::{Call, Contexts};
use super::convert::tool_from_rmcp;
use super::forwarding_peer::ForwardingPeer;
use crate::ConfigError;
use crate::middleware::or_panic;
use crate::scope;
use crate::selection::LookUp;

const NAME: &str = "RmcpServer";

/// Puts layers around a server of the official SDK, `rmcp`: any [`ServerHandler`].
///
/// The [manual](super) shows it in a stack.
pub struct RmcpServer<T> {
    pub(super) server: Arc<T>,
    /// The tools, as the server listed them at the start.
    pub(super) tools: Arc<[own::Tool]>,
    pub(super) contexts: Contexts,
    /// The peer of calls that have no client.
    pub(super) nobody: Arc<ForwardingPeer>,
}

impl<T> Clone for RmcpServer<T> {
    fn clone(&self) -> Self {
        Self {
            server: Arc::clone(&self.server),
            tools: Arc::clone(&self.tools),
            contexts: self.contexts.clone(),
            nobody: Arc::clone(&self.nobody),
        }
    }
}

impl<T> fmt::Debug for RmcpServer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(NAME).field("tools", &self.tools.len()).finish_non_exhaustive()
    }
}

impl<T: ServerHandler> RmcpServer<T> {
    /// Creates the end of a stack, inside a Tokio runtime.
    ///
    /// # Panics
    ///
    /// With the text of the error of [`try_new`](Self::try_new).
    pub fn new(server: T) -> Self {
        or_panic(Self::try_new(server))
    }

    /// Creates the end of a stack. It lists the tools of the server, since layers look at their annotations.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the server fails to list its tools, or if that takes waiting: see [`load`](Self::load). Also if there is no
    /// Tokio runtime.
    pub fn try_new(server: T) -> Result<Self, ConfigError> {
        let nobody = nobody()?;
        match listed(&server, &of_nobody(&nobody)).now_or_never() {
            Some(listed) => Ok(Self::build(server, &tools_of(listed)?, nobody)),
            None => Err(ConfigError::invalid(
                NAME,
                "new",
                "the server waits for something before it lists its tools: use `RmcpServer::load(server).await`",
            )),
        }
    }

    /// Creates the end of a stack around a server that waits for something before it lists its tools.
    ///
    /// # Errors
    ///
    /// Those of [`try_new`](Self::try_new), but that the server may wait.
    pub async fn load(server: T) -> Result<Self, ConfigError> {
        let nobody = nobody()?;
        let tools = tools_of(listed(&server, &of_nobody(&nobody)).await)?;
        Ok(Self::build(server, &tools, nobody))
    }

    /// Creates the end of a stack around a server that has these tools: it is not asked for them before it has a client.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if there is no Tokio runtime.
    pub fn with_tools<'a>(server: T, tools: impl IntoIterator<Item = &'a Tool>) -> Result<Self, ConfigError> {
        let tools: Vec<_> = tools.into_iter().cloned().collect();
        Ok(Self::build(server, &tools, nobody()?))
    }

    /// Returns the tools of the caller whose tools a layer looks up.
    pub(super) fn looked_up(&self) -> Option<Vec<own::Tool>> {
        scope::current::<LookUp>()?;
        let mut ctx = scope::current::<Call>()?.ctx.clone();
        // Others wait for the listing too.
        ctx.ct = Default::default();
        let listed = Handle::current().block_on(listed(&*self.server, &ctx));
        match tools_of(listed) {
            Ok(tools) => Some(tools.iter().map(tool_from_rmcp).collect()),
            // A look-up fails with a panic. This one does not run the hook.
            Err(error) => resume_unwind(Box::new(error)),
        }
    }

    fn build(server: T, tools: &[Tool], nobody: ForwardingPeer) -> Self {
        Self {
            server: Arc::new(server),
            tools: tools.iter().map(tool_from_rmcp).collect(),
            contexts: Contexts::default(),
            nobody: Arc::new(nobody),
        }
    }

    /// Reads the caller of a request, from its credentials, or `None` for an anonymous one.
    ///
    /// rmcp passes credentials on without reading them. A request with an `Authorization` header and without a principal is one of an
    /// unknown caller: it shares no answer with another one, and idempotency keys and sessions by principal are refused.
    ///
    /// ```
    /// use mcp_patterns::rmcp_server::{Principal, RmcpServer};
    ///
    /// #[derive(Clone)]
    /// struct Notes;
    ///
    /// impl rmcp::ServerHandler for Notes {}
    ///
    /// /// The user that your own middleware has found for the token, and put into the extensions
    /// /// of the request.
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = RmcpServer::try_new(Notes)?.with_principal(|ctx| {
    ///     let parts = ctx.extensions.get::<http::request::Parts>()?;
    ///     let user = parts.extensions.get::<User>()?;
    ///     Some(Principal::new(user.0.clone()))
    /// });
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_principal(
        mut self,
        principal: impl Fn(&RmcpContext<RoleServer>) -> Option<Principal> + Send + Sync + 'static,
    ) -> Self {
        self.contexts.principal = Some(Arc::new(principal));
        self
    }

    /// Another instance of the server, with the same tools.
    pub(super) fn around(&self, server: T) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut around = Self { server: Arc::new(server), ..self.clone() };
        around.contexts.instance = Some(NEXT.fetch_add(1, Ordering::Relaxed));
        around
    }
}

fn nobody() -> Result<ForwardingPeer, ConfigError> {
    if tokio::runtime::Handle::try_current().is_err() {
        let reason = "needs a Tokio runtime: create it in an async function, such as a `#[tokio::main]`";
        return Err(ConfigError::invalid(NAME, "new", reason));
    }
    Ok(ForwardingPeer::new(Arc::new(NoClient), None, None))
}

/// The context of requests before there is a client.
fn of_nobody(nobody: &ForwardingPeer) -> RmcpContext<RoleServer> {
    RmcpContext::new(RequestId::Number(0), nobody.peer().clone())
}

/// Asks a server for its tools.
async fn listed<T: ServerHandler>(server: &T, ctx: &RmcpContext<RoleServer>) -> Result<Vec<Tool>, ErrorData> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    loop {
        let page = cursor.take().map(|cursor| {
            let mut page = PaginatedRequestParams::default();
            page.cursor = Some(cursor);
            page
        });
        let listed = server.list_tools(page, ctx.clone()).await?;
        tools.extend(listed.tools);
        match listed.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(tools),
        }
    }
}

fn tools_of(listed: Result<Vec<Tool>, ErrorData>) -> Result<Vec<Tool>, ConfigError> {
    match listed {
        Ok(tools) => Ok(tools),
        // It has none.
        Err(error) if error.code == ErrorCode::METHOD_NOT_FOUND => Ok(Vec::new()),
        Err(ErrorData { message, .. }) => {
            let reason = format!("the server does not list its tools without a client ({}): use `with_tools`", message);
            Err(ConfigError::invalid(NAME, "new", reason))
        }
    }
}

/// The client where there is none.
#[derive(Debug)]
struct NoClient;

impl McpSession for NoClient {
    fn call<'a>(&'a self, method: &'a str, _: Value) -> SessionFuture<'a, Value> {
        let refused = McpError::capability_not_supported(format!("a client for {method}: the request has none"));
        Box::pin(async { Err(refused) })
    }

    fn notify<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
