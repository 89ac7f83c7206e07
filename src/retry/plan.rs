//! What the layer keeps for a tool that it acts on.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::RequestContext;

use crate::idempotency::KeySource;
use crate::telemetry::{Counter, Warning};

#[derive(Debug, Clone)]
pub(super) struct ToolPlan {
    /// Where a call must carry a key to be made twice: a layer further in then sees to it that it takes effect once.
    pub(super) key: Option<KeySource>,
    pub(super) may_ask_again: bool,
    /// Whether a call takes effect once however often it is made, by its author's annotation or by its key.
    pub(super) is_idempotent: bool,
    pub(super) retries: Counter,
    pub(super) exhausted: Counter,
    pub(super) giving_up: Arc<Warning>,
}

impl ToolPlan {
    pub(super) fn may_repeat(&self, args: &Value, ctx: &RequestContext) -> bool {
        self.key.as_ref().is_none_or(|key| key.is_given(args, ctx))
    }
}

/// The counters follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.may_ask_again, self.is_idempotent) == (&other.key, other.may_ask_again, other.is_idempotent)
    }
}
