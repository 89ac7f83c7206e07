use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};
use tokio::time::timeout;
use turbomcp_core::RequestContext;
use turbomcp_types::ToolResult;

use super::claims::Claims;
use super::store::{Resolved, StoreError};
use crate::arguments::LayerArguments;
use crate::idempotency::{self, CallKey, Idempotency, KeyCounts, KeySource, KeySpace};
use crate::selection::Plan;

/// Decides what nobody else can: whether an ambiguous call took effect. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) bound: Arc<ArcSwapOption<Bound>>,
}

/// The server that the layer was put on last.
pub(super) struct Bound {
    pub(super) space: Arc<KeySpace>,
    pub(super) claims: Claims,
    pub(super) idempotency: Arc<Idempotency>,
    pub(super) plan: Plan<Arc<KeyCounts>>,
}

/// What is known by now of a call that was ambiguous.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// It took effect. This is its result: who calls again with the key gets it.
    Done(ToolResult),
    /// It took no effect. Who calls again with the key makes the call.
    NotDone,
}

/// Why a call was not resolved.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// The layer is on no server yet.
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
    Store(StoreError),
}

impl Handle {
    /// Ends an ambiguous call, after you have found out what became of it.
    ///
    /// `caller` is who made it, as the [`Identity`](crate::Identity) tells callers apart: the same user, issuer and tenant (`RequestContext::new().with_user_id("ada")`), or nobody where
    /// callers are anonymous, on the same session if [that tells them apart](crate::Identity::with_anonymous_by_session). If the call should still come to its end after all, that changes nothing any more.
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
        let bound = self.bound.load_full().ok_or(ResolveError::NotLayered)?;
        let call = bound.call(caller, tool, key).ok_or(ResolveError::InvalidKey)?;
        let record = match resolution {
            Resolution::NotDone => None,
            Resolution::Done(result) => match idempotency::to_record(&Ok(result), None) {
                Some(record) => Some(record),
                None => return Err(ResolveError::Store(StoreError::unavailable("the result cannot be written"))),
            },
        };
        let Bound { claims, idempotency, .. } = &*bound;
        let step = claims.store.resolve(&call.id, record.as_deref(), idempotency.ttl());
        match timeout(claims.timeout, step).await {
            Ok(Ok(Resolved::Yes)) => {
                tracing::info!(tool, key, done = record.is_some(), "an ambiguous call was resolved");
                Ok(())
            }
            // A tool that only some callers see may not be known since the start, but its calls are.
            Ok(Ok(Resolved::Unknown)) if bound.plan.of_anybody(tool).is_none() => Err(ResolveError::UnknownTool),
            Ok(Ok(Resolved::Unknown)) => Err(ResolveError::UnknownCall),
            Ok(Ok(Resolved::Running)) => Err(ResolveError::Running),
            Ok(Ok(Resolved::Answered)) => Err(ResolveError::Answered),
            Ok(Err(error)) => Err(ResolveError::Store(error)),
            Err(_) => Err(ResolveError::Store(StoreError::unavailable("no answer in time"))),
        }
    }
}

impl Bound {
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

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLayered => {
                "this IdempotentTool is on no server yet: call `layer(server)` or `try_layer(server)` first"
            }
            Self::UnknownTool => "this IdempotentTool does not act on the tool",
            Self::InvalidKey => "no idempotency key has this form",
            Self::UnknownCall => "this caller has made no such call, or it has been resolved or forgotten",
            Self::Running => "the call is running, so it is not ambiguous yet",
            Self::Answered => "the call has an answer, so it is not ambiguous",
            Self::Store(error) => return write!(f, "{error}"),
        })
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
