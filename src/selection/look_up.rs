//! The look-up of a tool that no listing has had yet.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::Tool;

use super::plan::{Answer, Asked, Listing, Plan, TIMEOUT, answer, ask, shortened};
use crate::Middleware;
use crate::arguments;
use crate::cancellation::cancelled;
use crate::outcome;
use crate::scope::{self, Scoped};

/// The mark of the scope of a look-up. Its thread may block.
pub(crate) struct LookUp;

impl Scoped for LookUp {}

/// The result of a look-up in the listing of a caller.
pub(crate) struct LookedUp<T>(Answer<T>);

/// Looks up an unknown tool in the listing of its caller.
///
/// The listing passes all layers further in, which learn from it too. Calls of one caller wait for the same listing. It runs on a
/// thread of its own, since a server may block, and a panic in it is a failure.
pub(crate) async fn look_up<M, H, T>(
    plan: &Plan<T>,
    layer: &M,
    inner: &H,
    tool: &str,
    ctx: &RequestContext,
) -> LookedUp<T>
where
    M: Middleware,
    H: McpHandler,
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let asked = ask(plan, tool, ctx, false);
    LookedUp(list(asked, plan, layer, inner, tool, ctx).await)
}

/// Returns the decision for a tool by its caller's own listing, which is repeated if it is older than a minute.
#[cfg(feature = "validated")]
pub(crate) async fn look_up_own<M, H, T>(
    plan: &Plan<T>,
    layer: &M,
    inner: &H,
    tool: &str,
    ctx: &RequestContext,
) -> Option<T>
where
    M: Middleware,
    H: McpHandler,
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let asked = ask(plan, tool, ctx, true);
    match list(asked, plan, layer, inner, tool, ctx).await {
        Answer::Listed(decision) => decision,
        Answer::NotListed | Answer::TooMany { .. } | Answer::Failed { .. } => None,
    }
}

async fn list<M, H, T>(
    asked: Asked<T>,
    plan: &Plan<T>,
    layer: &M,
    inner: &H,
    tool: &str,
    ctx: &RequestContext,
) -> Answer<T>
where
    M: Middleware,
    H: McpHandler,
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let (ended, id) = match asked {
        Asked::Answered(answer) => return answer,
        Asked::Waits { ended, id } => (ended, id),
        Asked::Lists(listing) => {
            let waits_for = (listing.ended(), Arc::clone(&listing.id));
            let (layer, inner, ctx) = (layer.clone(), inner.clone(), ctx.clone());
            let scope = scope::capture().with(Arc::new(LookUp));
            // Others wait for it too, so it continues if this caller cancels.
            tokio::spawn(run(listing, shortened(tool), move || {
                let list = || {
                    let tools = layer.list_tools_for(&inner, &ctx);
                    layer.observe_tools(&tools, Some(&ctx));
                };
                scope.run(|| arguments::listing(list));
            }));
            waits_for
        }
    };
    match waited(ended, ctx).await {
        Waited::Listed => answer(plan, tool, ctx),
        Waited::Failed => Answer::Failed { id },
        Waited::Cancelled => {
            tracing::debug!(id = &*id, tool = &*shortened(tool), "a call was cancelled while its tools were listed");
            Answer::Failed { id }
        }
    }
}

/// Lists, and logs once why that failed: all callers who waited for it, or arrive shortly after it, get the id.
async fn run<T: Send + 'static>(listing: Listing<T>, tool: String, list: impl FnOnce() + Send + 'static) {
    let (late_at, id) = (Instant::now() + TIMEOUT, Arc::clone(&listing.id));
    let (id, tool) = (&*id, &*tool);
    // Listings that hang take the permits of others, but these wait no longer than the timeout.
    let Ok(Ok(place)) = timeout_at(late_at, listing.running.clone().acquire_owned()).await else {
        tracing::warn!(id, tool, "the tools of a caller are not listed: too many other listings hang");
        return;
    };
    let mut listed = tokio::task::spawn_blocking(move || {
        let _place = place;
        list();
    });
    let ended = match timeout_at(late_at, &mut listed).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!(id, tool, "the tools of a caller are not listed in time");
            listed.await
        }
    };
    match ended {
        Ok(()) => listing.succeed(),
        Err(_) => tracing::warn!(id, tool, "the tools of a caller cannot be listed: the listing panicked"),
    }
}

/// The listing that a caller has waited for.
enum Waited {
    Listed,
    Failed,
    Cancelled,
}

async fn waited(mut ended: watch::Receiver<bool>, ctx: &RequestContext) -> Waited {
    let ended = pin!(timeout(TIMEOUT, async { ended.wait_for(|ended| *ended).await.is_ok() }));
    match select(ended, pin!(cancelled(ctx))).await {
        Either::Left((Ok(true), _)) => Waited::Listed,
        Either::Left(_) => Waited::Failed,
        Either::Right(((), _)) => Waited::Cancelled,
    }
}

impl<T> LookedUp<T> {
    /// For a layer that does not protect: decides by the name alone if the tool is not listed.
    pub(crate) fn or_by_name(self, tool: &str, decide: impl FnOnce(&Tool) -> Option<T>) -> Option<T> {
        match self.0 {
            Answer::Listed(decision) => decision,
            Answer::NotListed | Answer::TooMany { .. } | Answer::Failed { .. } => decide(&bare(tool)),
        }
    }

    /// For a layer that protects: refuses an unknown tool, unless that is allowed.
    ///
    /// Where unlisted tools are allowed, it decides by the name alone.
    #[cfg(any(feature = "idempotent", feature = "output", feature = "transactional", feature = "validated"))]
    pub(crate) fn or_refuse(
        self,
        tool: &str,
        is_allowed: bool,
        decide: impl FnOnce(&Tool) -> Option<T>,
    ) -> McpResult<Option<T>> {
        match self.0 {
            Answer::Listed(decision) => Ok(decision),
            Answer::NotListed if is_allowed => Ok(decide(&bare(tool))),
            Answer::NotListed => Err(McpError::tool_not_found(tool)),
            Answer::TooMany { exists: false, .. } if !is_allowed => Err(McpError::tool_not_found(tool)),
            Answer::TooMany { id, .. } | Answer::Failed { id } => {
                let sentence =
                    format!("The tools cannot be listed at the moment: try again later. Nothing was done (error {id})");
                Err(outcome::marked(outcome::CATALOGUE, "unavailable", McpError::unavailable(sentence)))
            }
        }
    }
}

/// Creates a tool that has only a name.
pub(crate) fn bare(name: &str) -> Tool {
    Tool { name: name.to_owned(), ..Tool::default() }
}

#[cfg(all(test, feature = "validated"))]
mod tests;
