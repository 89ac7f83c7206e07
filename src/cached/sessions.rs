//! Whose result it is when a tool opened its session: nobody's in another one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use turbomcp_core::{McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::error::LoadError;
use super::layer::Failed;
use super::shared::Source;
use crate::scope::{self, Witness};
use crate::shared::SessionOfCall;
use crate::{Scope, outcome};

/// The end of a load that is not kept.
#[derive(Debug, Clone)]
pub(super) enum Unkept {
    Failed(Failed),
    /// The tool opened its session, and the results of this scope are for others too.
    OfSession(McpResult<ToolResult>, SessionOfCall),
}

/// Makes a shared call in the scope of the caller who began it, and sees whether it opened its session.
pub(super) fn watched<F>(
    scope: Scope,
    ctx: &RequestContext,
    call: F,
) -> impl Future<Output = Result<ToolResult, Unkept>> + Send + use<F>
where
    F: Future<Output = McpResult<ToolResult>> + Send + 'static,
{
    let (captured, session) = (scope::capture(), SessionOfCall::of(ctx));
    async move {
        let witness = Arc::new(Witness::default());
        let result = captured.enter(scope::enter(Arc::clone(&witness), call)).await;
        if scope != Scope::Session && witness.saw_a_session() {
            return Err(Unkept::OfSession(result, session));
        }
        kept_or_failed(result).map_err(Unkept::Failed)
    }
}

#[expect(clippy::result_large_err, reason = "a failure is a whole result, as large as a success")]
/// Hands a result to a caller in the session that it depends on.
pub(super) fn of_own_session(result: McpResult<ToolResult>) -> Result<(ToolResult, Source), Failed> {
    // An outer cache has not seen the tool open the session, if the call was made for somebody else.
    scope::session_opened();
    kept_or_failed(result).map(|result| (result, Source::Load))
}

/// Makes a call whose result is the caller's alone.
pub(super) async fn unshared(
    call: impl Future<Output = McpResult<ToolResult>>,
) -> Result<(ToolResult, Source), Failed> {
    kept_or_failed(call.await).map(|result| (result, Source::Load))
}

#[expect(clippy::result_large_err, reason = "a failure is a whole result, as large as a success")]
fn kept_or_failed(result: McpResult<ToolResult>) -> Result<ToolResult, Failed> {
    match outcome::failure(&result) {
        None => result.map_err(|error| Failed(Err(error))),
        Some(_) => Err(Failed(result)),
    }
}

impl LoadError for Unkept {
    fn timed_out(after: Duration) -> Self {
        Self::Failed(Failed::timed_out(after))
    }

    fn lost() -> Self {
        Self::Failed(Failed::lost())
    }

    fn cancelled() -> Self {
        Self::Failed(Failed::cancelled())
    }
    fn allows_stale(&self) -> bool {
        match self {
            Self::Failed(failed) => failed.allows_stale(),
            // A value that is of no session is not what the tool says now.
            Self::OfSession(..) => false,
        }
    }

    fn told_again(self, age: Duration) -> Self {
        match self {
            Self::Failed(failed) => Self::Failed(failed.told_again(age)),
            of_session @ Self::OfSession(..) => of_session,
        }
    }
}
