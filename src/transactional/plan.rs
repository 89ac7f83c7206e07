//! What the layer keeps for a tool that it acts on.

use std::sync::atomic::{AtomicBool, Ordering};

use super::metrics::TransactionCounts;
use crate::idempotency_keys::KeyCounts;

#[derive(Debug)]
pub(super) struct ToolPlan {
    pub(super) read_only: bool,
    pub(super) counts: TransactionCounts,
    /// For a tool that takes keys.
    pub(super) keys: Option<KeyCounts>,
    has_warned_of_questions: AtomicBool,
}

impl ToolPlan {
    pub(super) fn new(tool: &str, read_only: bool, keys: Option<KeyCounts>) -> Self {
        Self { read_only, counts: TransactionCounts::new(tool), keys, has_warned_of_questions: AtomicBool::new(false) }
    }

    /// Warns once that the tool asks its client inside a transaction.
    pub(super) fn warn_of_questions(&self, tool: &str) {
        if !self.has_warned_of_questions.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                tool,
                "a tool asks its client inside a transaction: leave the tool out, ask first, and write with a Transactor"
            );
        }
    }
}

/// The counters follow from the name, under which the plan is kept.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (self.read_only, &self.keys) == (other.read_only, &other.keys)
    }
}
