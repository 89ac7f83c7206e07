//! The counters of transactions, by their ends.

use std::sync::Arc;

use crate::masked::CallLabel;
use crate::telemetry::Counter;

/// The end of a transaction that began here, all attempts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    /// The tool failed, requested a rollback, or ignored the failure of a part.
    RolledBack,
    /// The call's key already had its answer: there was nothing to do.
    Unused,
    Conflict,
    TimedOut,
    /// Cancelled or dropped by the caller.
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
pub(super) struct TransactionCounts {
    tool: Arc<str>,
    counters: [Counter; End::ALL.len()],
    retries: Counter,
}

impl TransactionCounts {
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
