//! Calls without a user, which the handle makes.

use std::future::Future;
use std::pin::Pin;

use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::answer::{Cacheable, Failed};
use super::call::{call_and_keep, get_or_call};
use super::plan::{AnswerPlan, Results};
use crate::cached::cache::load::Source;
use crate::identity::Partition;

/// The purpose of a call without a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Purpose {
    /// The call is made even if its result is kept.
    Refresh,
    Warm,
}

/// Makes a call without a user.
pub(in crate::cached) trait AnonymousCall: Send + Sync {
    fn tools(&self) -> Vec<Tool>;

    fn call<'a>(
        &'a self,
        results: &'a Results,
        plan: &'a AnswerPlan,
        tool: &'a str,
        args: Value,
        purpose: Purpose,
    ) -> Pin<Box<dyn Future<Output = Result<Source, Failed>> + Send + 'a>>;
}

impl<H: McpHandler> AnonymousCall for H {
    fn tools(&self) -> Vec<Tool> {
        self.list_tools()
    }

    fn call<'a>(
        &'a self,
        results: &'a Results,
        plan: &'a AnswerPlan,
        tool: &'a str,
        args: Value,
        purpose: Purpose,
    ) -> Pin<Box<dyn Future<Output = Result<Source, Failed>> + Send + 'a>> {
        Box::pin(async move {
            let ctx = RequestContext::new();
            let caller = plan.identity.partition(plan.scope, &ctx).unwrap_or(Partition::Everybody);
            let call = match purpose {
                Purpose::Warm => get_or_call::<ToolResult, _>(results, plan, &caller, self, tool, args, &ctx).await,
                Purpose::Refresh => {
                    call_and_keep::<ToolResult, _>(results, plan, &caller, self, tool, args, &ctx).await
                }
            };
            match call? {
                (_, Source::Own) => {
                    let reason = "the answer depends on a client or a session, so it is not kept";
                    Err(Failed(ToolResult::of_error(McpError::invalid_request(reason))))
                }
                (_, source) => Ok(source),
            }
        })
    }
}
