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

/// A call of a tool, as it travels with others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// The tool's name.
    pub tool: String,
    /// The tool's own arguments, without those of [layers](crate::arguments) further in.
    pub args: Value,
    /// Who calls: their identity, session, progress token and metadata. It is cancelled when the caller has left.
    pub ctx: RequestContext,
    /// Its arguments that are none of the tool's.
    pub(super) of_layers: Taken,
}

/// What the bulk functions of all tools look like to the layer.
pub(super) type Bulk =
    Arc<dyn Fn(Vec<Call>) -> BoxFuture<'static, McpResult<Vec<McpResult<ToolResult>>>> + Send + Sync>;

/// What a call is answered with. An error is one of the protocol.
pub(super) type Answer = McpResult<ToolResult>;

/// What the layer keeps for a tool that it acts on.
pub(super) struct ToolPlan {
    pub(super) bulk: Option<Bulk>,
    pub(super) read_only: bool,
    /// Those of layers further in: what the tool itself is asked does not have them.
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
