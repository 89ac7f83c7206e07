use turbomcp_core::{McpError, McpResult};
use turbomcp_types::{Tool, ToolResult};

use crate::arguments::LayerArguments;
use crate::telemetry::Counter;

/// The outcome of a call with a key.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "idempotent"), expect(dead_code, reason = "a transaction needs not all of them"))]
pub(crate) enum KeyOutcome {
    Recorded,
    Replayed,
    Released,
    Ambiguous,
    Unresolved,
    NotRecorded,
    InProgress,
    Refused,
    Cancelled,
    Unavailable,
    Overloaded,
}

impl KeyOutcome {
    /// In the order of the variants.
    const ALL: [&'static str; 11] = [
        "recorded",
        "replayed",
        "released",
        "ambiguous",
        "unresolved",
        "not_recorded",
        "in_progress",
        "refused",
        "cancelled",
        "unavailable",
        "overloaded",
    ];
}

/// Counts the outcomes of the calls of a tool that takes keys.
#[derive(Debug)]
pub(crate) struct KeyCounts {
    pub(crate) tool: String,
    /// The arguments of inner layers.
    pub(crate) arguments: LayerArguments,
    counters: [Counter; KeyOutcome::ALL.len()],
}

impl KeyCounts {
    pub(super) fn new(tool: &Tool, arguments: LayerArguments) -> Self {
        let counters = KeyOutcome::ALL.map(|outcome| {
            Counter::new("mcp_patterns_idempotency_total", &[("tool", &tool.name), ("outcome", outcome)])
        });
        Self { tool: tool.name.clone(), arguments, counters }
    }

    pub(crate) fn count(&self, outcome: KeyOutcome) {
        tracing::debug!(tool = self.tool, idempotency = KeyOutcome::ALL[outcome as usize]);
        self.counters[outcome as usize].increment();
    }

    /// Counts an answer of the layer itself.
    pub(crate) fn answer(&self, outcome: KeyOutcome, error: &McpError) -> McpResult<ToolResult> {
        self.count(outcome);
        Ok(error.to_tool_result())
    }
}

/// The counters follow from the name.
impl PartialEq for KeyCounts {
    fn eq(&self, other: &Self) -> bool {
        self.tool == other.tool && self.arguments == other.arguments
    }
}
