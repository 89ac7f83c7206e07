//! The handle that lists ambiguous calls, and resolves them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::time::timeout;
use turbomcp_core::RequestContext;

use super::ambiguous::{AmbiguousCall, AmbiguousCalls, Page, Resolution, ResolveError, Resolved};
use super::{CallKey, Idempotency, KeySource, KeySpace, call, to_record};
use crate::arguments::LayerArguments;

/// Lists and resolves ambiguous calls, which may or may not have taken effect. Cheap to clone.
///
/// It is about the server that its layer was put on last.
///
/// ```
/// use mcp_patterns::idempotency_keys::Resolution;
/// use mcp_patterns::idempotent::MemoryBackend;
/// use mcp_patterns::{IdempotentTool, Layer, testing::ScriptedServer};
/// use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
/// use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bank = ScriptedServer::new("bank")
///     .with_plain("pay", |_| async { Err(McpError::timeout("The bank does not answer")) });
/// let idempotent = IdempotentTool::new(MemoryBackend::new()).only(["pay"]);
/// let handle = idempotent.handle();
/// let server = idempotent.layer(bank);
/// let ada = RequestContext::new().with_user_id("ada");
/// server.call_tool("pay", json!({"to": "Bob", "idempotency_key": "9f1c"}), &ada).await?;
///
/// let page = handle.ambiguous(None, 100).await.unwrap();
/// let call = &page.calls[0];
/// assert_eq!((call.tool.as_str(), call.key.as_str()), ("pay", "9f1c"));
/// assert_eq!(call.caller(), handle.caller(&ada).unwrap());
///
/// // You look at the account: nothing was paid.
/// handle.resolve_listed(call, Resolution::NotDone).await.unwrap();
/// assert!(handle.ambiguous(None, 100).await.unwrap().calls.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Handle {
    bound: Arc<ArcSwapOption<Bound>>,
    tools: Arc<ArcSwapOption<Tools>>,
}

/// Names the tools that a layer acts on.
type Tools = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// A layer that was put on a server.
pub(crate) struct Bound {
    pub(crate) space: Arc<KeySpace>,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) acts_on: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) claims: Arc<dyn AmbiguousClaims>,
    /// For each step on the claims.
    pub(crate) timeout: Duration,
}

/// The claims of a layer, for listing and resolving.
#[async_trait]
pub(crate) trait AmbiguousClaims: Send + Sync {
    async fn list(&self, page: Page<'_>) -> Result<AmbiguousCalls, ClaimsError>;

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, ClaimsError>;
}

pub(crate) type ClaimsError = Box<dyn Error + Send + Sync>;

impl Handle {
    pub(crate) fn bind(&self, bound: Bound) {
        self.bound.store(Some(Arc::new(bound)));
    }

    pub(crate) fn bind_tools(&self, tools: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.tools.store(Some(Arc::new(Box::new(tools))));
    }

    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.tools.load().as_ref().map(|tools| tools()).unwrap_or_default()
    }

    fn bound(&self) -> Result<Arc<Bound>, ResolveError> {
        self.bound.load_full().ok_or(ResolveError::NotLayered)
    }

    /// Lists the ambiguous calls of the server: up to `limit` (1,000 at most) that come after a [page](AmbiguousCalls::next), in arbitrary
    /// order. Calls that become ambiguous meanwhile may be missing.
    ///
    /// # Errors
    ///
    /// [`ResolveError::NotLayered`] and [`ResolveError::Backend`].
    pub async fn ambiguous(&self, after: Option<&str>, limit: usize) -> Result<AmbiguousCalls, ResolveError> {
        let bound = self.bound()?;
        let space = bound.idempotency.space_id(&bound.space);
        match timeout(bound.timeout, bound.claims.list(Page::new(&space, after, limit))).await {
            Ok(listed) => listed.map_err(ResolveError::Backend),
            Err(_) => Err(no_answer()),
        }
    }

    /// Returns the digits that [`AmbiguousCall::caller`] returns for the calls of this caller, or `None` as long as the layer was not put
    /// on a server.
    #[must_use]
    pub fn caller(&self, caller: &RequestContext) -> Option<String> {
        let bound = self.bound().ok()?;
        Some(bound.idempotency.caller_id(&bound.space, caller))
    }

    /// Ends an ambiguous call, after you have found out whether it took effect.
    ///
    /// `caller` is the one who made the call, as the [`Identity`](crate::Identity) distinguishes callers: the same user, issuer and tenant
    /// (`RequestContext::new().with_user_id("ada")`). For an anonymous caller it has no user, and the same session if
    /// [sessions distinguish callers](crate::Identity::with_anonymous_by_session). If the call ends later after all, that changes nothing.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`]. Then nothing was changed, unless the backend failed: see [`ResolveError::Backend`].
    pub async fn resolve(
        &self,
        caller: &RequestContext,
        tool: &str,
        key: &str,
        resolution: Resolution,
    ) -> Result<(), ResolveError> {
        let bound = self.bound()?;
        let call = bound.call(caller, tool, key).ok_or(ResolveError::InvalidKey)?;
        match bound.resolve(&call.id, tool, resolution).await {
            // A tool that only some callers see may be unknown since the start, but its calls are recorded.
            Err(ResolveError::UnknownCall) if !(bound.acts_on)(tool) => Err(ResolveError::UnknownTool),
            resolved => resolved,
        }
    }

    /// Ends an ambiguous call that was [listed](Self::ambiguous), as [`resolve`](Self::resolve) does.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`]. Then nothing was changed, unless the backend failed: see [`ResolveError::Backend`].
    pub async fn resolve_listed(&self, call: &AmbiguousCall, resolution: Resolution) -> Result<(), ResolveError> {
        self.bound()?.resolve(&call.id, &call.tool, resolution).await
    }
}

impl Bound {
    async fn resolve(&self, id: &str, tool: &str, resolution: Resolution) -> Result<(), ResolveError> {
        let record = match resolution {
            Resolution::NotDone => None,
            Resolution::Done(result) => match to_record(&Ok(result), None) {
                Some(record) => Some(record),
                None => return Err(ResolveError::Backend("the result cannot be written".into())),
            },
        };
        match timeout(self.timeout, self.claims.resolve(id, record.as_deref(), self.idempotency.ttl())).await {
            Ok(Ok(Resolved::Yes)) => {
                let (key_hash, done) = (call::hash(id), record.is_some());
                tracing::info!(tool, key_hash = key_hash.as_str(), done, "an ambiguous call was resolved");
                Ok(())
            }
            Ok(Ok(Resolved::Unknown)) => Err(ResolveError::UnknownCall),
            Ok(Ok(Resolved::Running)) => Err(ResolveError::Running),
            Ok(Ok(Resolved::Answered)) => Err(ResolveError::Answered),
            Ok(Err(error)) => Err(ResolveError::Backend(error)),
            Err(_) => Err(no_answer()),
        }
    }

    /// The call as its caller made it, without the arguments, which are not part of its id.
    fn call(&self, caller: &RequestContext, tool: &str, key: &str) -> Option<CallKey> {
        let mut args = Value::Object(Map::new());
        let mut ctx = caller.clone();
        match self.idempotency.source().clone() {
            KeySource::Argument(name) => args = Value::Object(Map::from_iter([(name, key.into())])),
            KeySource::Metadata(name) => ctx = ctx.with_metadata(name, key),
            KeySource::Header(name) => {
                ctx.headers.get_or_insert_default().insert(name, key.to_owned());
            }
        }
        self.idempotency.key(&self.space, tool, &LayerArguments::default(), &mut args, &ctx).ok()?
    }
}

fn no_answer() -> ResolveError {
    ResolveError::Backend("no answer in time".into())
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
