//! What the layer knows of a tool.

use std::sync::Arc;

use super::breakers::Breaker;
use crate::telemetry::Counter;

/// How the layer treats a tool.
#[derive(Debug)]
pub(super) struct ToolPlan {
    pub(super) breaker: Arc<Breaker>,
    pub(super) refusals: Counter,
}

impl ToolPlan {
    pub(super) fn new(tool: &str, breaker: Arc<Breaker>) -> Arc<Self> {
        let refusals = Counter::new("mcp_patterns_breaker_refusals_total", &[("tool", tool)]);
        Arc::new(Self { breaker, refusals })
    }
}

/// The counter follows from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.breaker, &other.breaker)
    }
}
