//! What the layer knows of a tool, and of a call.

use std::sync::Arc;

use turbomcp_core::RequestContext;

use crate::Identity;
use crate::telemetry::Counter;

/// How the layer treats a tool.
#[derive(Debug)]
pub(super) struct ToolPlan {
    /// The number of the tool in the tables.
    pub(super) number: u64,
    /// Its name in the keys of Redis.
    #[cfg(feature = "redis")]
    pub(super) name: Box<str>,
    pub(super) is_read_only: bool,
    pub(super) counters: Counters,
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) rate: Counter,
    pub(super) concurrency: Counter,
    pub(super) timeouts: Counter,
}

impl ToolPlan {
    pub(super) fn new(tool: &str, number: u64, is_read_only: bool) -> Arc<Self> {
        let refused = |reason| Counter::new("mcp_patterns_limit_refusals_total", &[("tool", tool), ("reason", reason)]);
        let counters = Counters {
            rate: refused("rate"),
            concurrency: refused("concurrency"),
            timeouts: Counter::new("mcp_patterns_limit_timeouts_total", &[("tool", tool)]),
        };
        Arc::new(Self {
            number,
            #[cfg(feature = "redis")]
            name: tool.into(),
            is_read_only,
            counters,
        })
    }
}

impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.is_read_only) == (other.number, other.is_read_only)
    }
}

/// A call that wants to be let through.
pub(super) struct Call<'a> {
    pub(super) tool: &'a ToolPlan,
    pub(super) identity: &'a Identity,
    pub(super) ctx: &'a RequestContext,
    pub(super) cost: u32,
}
