//! What the layer keeps for a tool that it acts on.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::RequestContext;

use crate::idempotency_keys::KeySource;
use crate::telemetry::{Counter, Warning};

#[derive(Debug, Clone)]
pub(super) struct ToolPlan {
    /// The source of the key without which a call is not repeated. An inner layer ensures that a call with a key takes effect once.
    pub(super) key: Option<KeySource>,
    pub(super) may_repeat_questions: bool,
    /// Whether repeated calls take effect once, by the author's annotation or by the key.
    pub(super) is_idempotent: bool,
    pub(super) retries: Counter,
    pub(super) exhausted: Counter,
    pub(super) exhausted_warning: Arc<Warning>,
}

impl ToolPlan {
    pub(super) fn may_repeat(&self, args: &Value, ctx: &RequestContext) -> bool {
        self.key.as_ref().is_none_or(|key| key.is_given(args, ctx))
    }
}

/// The counters follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.may_repeat_questions, self.is_idempotent)
            == (&other.key, other.may_repeat_questions, other.is_idempotent)
    }
}
