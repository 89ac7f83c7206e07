//! What the layer keeps for a tool that it acts on, and the calls that bulk functions get.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use turbomcp_core::{McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::instruments::Instruments;
use crate::Scope;
use crate::arguments::{LayerArguments, Taken};

/// A tool call in a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// The tool's name.
    pub tool: String,
    /// The tool's own arguments, without those of [layers](crate::arguments) further in.
    pub args: Value,
    /// The caller's context: identity, session, progress token and metadata. It is cancelled when the caller has left.
    pub ctx: RequestContext,
    /// The arguments that belong to inner layers.
    pub(super) of_layers: Taken,
}

/// The bulk function of a tool.
pub(super) type Bulk =
    Arc<dyn Fn(Vec<Call>) -> BoxFuture<'static, McpResult<Vec<McpResult<ToolResult>>>> + Send + Sync>;

/// The answer to a call. An error is a protocol error.
pub(super) type Answer = McpResult<ToolResult>;

/// What the layer keeps for a tool that it acts on.
pub(super) struct ToolPlan {
    pub(super) bulk: Option<Bulk>,
    pub(super) read_only: bool,
    /// The arguments of inner layers, which the bulk function does not get.
    pub(super) arguments: LayerArguments,
    pub(super) scope: Scope,
    pub(super) splits: bool,
    pub(super) instruments: Arc<Instruments>,
}

/// The instruments and the bulk function follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        let compared = |plan: &Self| (plan.scope, plan.splits, plan.bulk.is_some(), plan.read_only);
        compared(self) == compared(other) && self.arguments == other.arguments
    }
}

impl fmt::Debug for ToolPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPlan").field("scope", &self.scope).field("splits", &self.splits).finish_non_exhaustive()
    }
}
