//! How transactions end, and how many of them.

use std::sync::Arc;

use crate::masked::CallLabel;
use crate::telemetry::Counter;

/// What became of a transaction that began here, all attempts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    /// The tool failed, asked for a rollback, or swallowed the failure of a part.
    RolledBack,
    /// The call's key had its answer already: there was nothing to do.
    Unused,
    Conflict,
    TimedOut,
    /// By the caller, who may also have left without a word.
    Cancelled,
    Leaked,
    Panicked,
    Unavailable,
    /// By the tool itself, before the end.
    EndedEarly,
    Unknown,
}

impl End {
    /// In the order of the variants.
    const ALL: [&'static str; 11] = [
        "committed",
        "rolled_back",
        "unused",
        "conflict",
        "timed_out",
        "cancelled",
        "leaked",
        "panicked",
        "unavailable",
        "ended_early",
        "unknown",
    ];
}

/// Counts the transactions of a tool.
#[derive(Debug)]
pub(super) struct Ends {
    tool: Arc<str>,
    counters: [Counter; End::ALL.len()],
    retries: Counter,
}

impl Ends {
    pub(super) fn new(tool: &str) -> Self {
        Self {
            tool: tool.into(),
            counters: End::ALL
                .map(|end| Counter::new("mcp_patterns_transactions_total", &[("tool", tool), ("outcome", end)])),
            retries: Counter::new("mcp_patterns_transaction_retries_total", &[("tool", tool)]),
        }
    }

    /// Names a call of the tool for the log.
    pub(super) fn label(&self) -> CallLabel {
        CallLabel::current().with_tool(Arc::clone(&self.tool))
    }

    pub(super) fn count(&self, end: End) {
        self.counters[end as usize].increment();
    }

    pub(super) fn count_retry(&self) {
        self.retries.increment();
    }
}
