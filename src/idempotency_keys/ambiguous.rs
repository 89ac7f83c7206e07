//! Calls of which nobody knows whether they took effect: listed for people, and resolved by them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::time::timeout;
use turbomcp_core::RequestContext;
use turbomcp_types::ToolResult;

use super::call::{self, CALLER, SPACE};
use super::{CallKey, Idempotency, KeySource, KeySpace, to_record};
use crate::arguments::LayerArguments;

/// The most calls that a page of a list has.
const MAX_PAGE: usize = 1000;

/// Lists and resolves ambiguous calls: those of which nobody knows whether they took effect. Cheap to clone.
///
/// It is that of the server on which its layer was put last.
///
/// ```
/// use mcp_patterns::idempotency_keys::Resolution;
/// use mcp_patterns::idempotent::MemoryStore;
/// use mcp_patterns::{IdempotentTool, Layer, testing::ScriptedServer};
/// # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
/// # use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let bank = ScriptedServer::new("bank").with_plain("pay", |_| async { Err(McpError::timeout("The bank does not answer")) });
/// let idempotent = IdempotentTool::new(MemoryStore::new()).only(["pay"]);
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
/// // Somebody has looked at the account: nothing was paid.
/// handle.resolve_listed(call, Resolution::NotDone).await.unwrap();
/// assert!(handle.ambiguous(None, 100).await.unwrap().calls.is_empty());
/// # Ok::<(), McpError>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Handle {
    bound: Arc<ArcSwapOption<Bound>>,
}

/// The server that a layer was put on last.
pub(crate) struct Bound {
    pub(crate) space: Arc<KeySpace>,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) acts_on: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) ledger: Arc<dyn Ledger>,
    /// For each step of the ledger.
    pub(crate) timeout: Duration,
}

/// Where a layer keeps its claims.
pub(crate) trait Ledger: Send + Sync {
    fn list<'a>(&'a self, page: Page<'a>) -> BoxFuture<'a, Result<AmbiguousCalls, LedgerError>>;

    fn resolve<'a>(
        &'a self,
        id: &'a str,
        record: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Resolved, LedgerError>>;
}

type LedgerError = Box<dyn Error + Send + Sync>;

/// Which ambiguous calls are to be listed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Page<'a> {
    /// How the ids of the calls begin.
    pub space: &'a str,
    /// What [`AmbiguousCalls::next`] was on the page before; without it, the list begins.
    pub after: Option<&'a str>,
    /// How many calls the page has at most. A store that can only look at so many keys at a time, as Redis, may have a few more.
    pub limit: usize,
}

impl<'a> Page<'a> {
    pub(crate) fn new(space: &'a str, after: Option<&'a str>, limit: usize) -> Self {
        Self { space, after, limit: limit.clamp(1, MAX_PAGE) }
    }
}

/// A page of ambiguous calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AmbiguousCalls {
    /// The calls. There may be fewer than asked for, or none, although others follow.
    pub calls: Vec<AmbiguousCall>,
    /// Where the next page begins. `None`: this was the last one.
    pub next: Option<String>,
}

/// A call of which nobody knows whether it took effect. It has neither the arguments nor the name of the caller, which are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmbiguousCall {
    /// Server, version, caller, tool and key, hashed.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The idempotency key.
    pub key: String,
    /// How long nobody has known, as far as the store can tell.
    pub age: Duration,
}

impl AmbiguousCall {
    /// Returns 16 hexadecimal digits that all calls of one caller share, and hardly anybody else's. See [`Handle::caller`].
    #[must_use]
    pub fn caller(&self) -> &str {
        self.id.get(SPACE..SPACE + CALLER).unwrap_or_default()
    }

    /// Returns the 16 hexadecimal digits that the log has as `key_hash` instead of the key.
    #[must_use]
    pub fn key_hash(&self) -> String {
        call::hash(&self.id).as_str().to_owned()
    }
}

/// What became of an ambiguous claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolved {
    /// It is resolved.
    Yes,
    /// There is no such claim.
    Unknown,
    /// It is not ambiguous: its call is running.
    Running,
    /// It is not ambiguous: its call has an answer.
    Answered,
}

/// What is known by now of a call that was ambiguous.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// It took effect. This is its result: who calls again with the key gets it.
    Done(ToolResult),
    /// It took no effect. Who calls again with the key makes the call.
    NotDone,
}

/// Why a call was not resolved, or none were listed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// The layer is on no server yet, or takes no keys.
    NotLayered,
    /// The layer does not act on this tool.
    UnknownTool,
    /// No key has this form.
    InvalidKey,
    /// This caller has made no such call, or it has been resolved or forgotten.
    UnknownCall,
    /// The call is running: it is not ambiguous, at least not yet.
    Running,
    /// The call has an answer: it is not ambiguous.
    Answered,
    /// The store failed. Nothing is known to have changed.
    Store(Box<dyn Error + Send + Sync>),
}

impl Handle {
    pub(crate) fn bind(&self, bound: Bound) {
        self.bound.store(Some(Arc::new(bound)));
    }

    fn bound(&self) -> Result<Arc<Bound>, ResolveError> {
        self.bound.load_full().ok_or(ResolveError::NotLayered)
    }

    /// Lists the ambiguous calls of the server, up to `limit` (1,000 at most) that come after a [page](AmbiguousCalls::next), in no
    /// order that means anything. Calls that become ambiguous meanwhile may be missing.
    ///
    /// # Errors
    ///
    /// [`ResolveError::NotLayered`] and [`ResolveError::Store`].
    pub async fn ambiguous(&self, after: Option<&str>, limit: usize) -> Result<AmbiguousCalls, ResolveError> {
        let bound = self.bound()?;
        let space = bound.idempotency.space_id(&bound.space);
        match timeout(bound.timeout, bound.ledger.list(Page::new(&space, after, limit))).await {
            Ok(listed) => listed.map_err(ResolveError::Store),
            Err(_) => Err(no_answer()),
        }
    }

    /// Returns what [`AmbiguousCall::caller`] returns for the calls of this caller, or `None` as long as the layer is on no server.
    #[must_use]
    pub fn caller(&self, caller: &RequestContext) -> Option<String> {
        let bound = self.bound().ok()?;
        Some(bound.idempotency.caller_id(&bound.space, caller))
    }

    /// Ends an ambiguous call, after you have found out what became of it.
    ///
    /// `caller` is who made it, as the [`Identity`](crate::Identity) tells callers apart: the same user, issuer and tenant
    /// (`RequestContext::new().with_user_id("ada")`), or nobody where callers are anonymous, on the same session if [that tells them
    /// apart](crate::Identity::with_anonymous_by_session). If the call should still come to its end after all, that changes nothing
    /// any more.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`]; then nothing was changed.
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
            // A tool that only some callers see may not be known since the start, but its calls are.
            Err(ResolveError::UnknownCall) if !(bound.acts_on)(tool) => Err(ResolveError::UnknownTool),
            resolved => resolved,
        }
    }

    /// Ends an ambiguous call that was [listed](Self::ambiguous), as [`resolve`](Self::resolve) does.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`]; then nothing was changed.
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
                None => return Err(ResolveError::Store("the result cannot be written".into())),
            },
        };
        match timeout(self.timeout, self.ledger.resolve(id, record.as_deref(), self.idempotency.ttl())).await {
            Ok(Ok(Resolved::Yes)) => {
                let (key_hash, done) = (call::hash(id), record.is_some());
                tracing::info!(tool, key_hash = key_hash.as_str(), done, "an ambiguous call was resolved");
                Ok(())
            }
            Ok(Ok(Resolved::Unknown)) => Err(ResolveError::UnknownCall),
            Ok(Ok(Resolved::Running)) => Err(ResolveError::Running),
            Ok(Ok(Resolved::Answered)) => Err(ResolveError::Answered),
            Ok(Err(error)) => Err(ResolveError::Store(error)),
            Err(_) => Err(no_answer()),
        }
    }

    /// The call as its caller made it, but for the arguments: they have no part in its id.
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
    ResolveError::Store("no answer in time".into())
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLayered => {
                "this layer is on no server yet, or takes no keys: call `layer(server)` or `try_layer(server)` first"
            }
            Self::UnknownTool => "this layer does not act on the tool",
            Self::InvalidKey => "no idempotency key has this form",
            Self::UnknownCall => "this caller has made no such call, or it has been resolved or forgotten",
            Self::Running => "the call is running, so it is not ambiguous yet",
            Self::Answered => "the call has an answer, so it is not ambiguous",
            Self::Store(error) => return write!(f, "{error}"),
        })
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
