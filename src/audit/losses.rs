//! Events that were lost: counted, and logged at most once in ten seconds.

use std::sync::OnceLock;

use crate::telemetry::{Count, Counter, Warning};

/// The events that a sink has lost.
pub(super) struct Losses {
    sink: String,
    count: Count,
    /// Made when the server starts, or with the first loss: the recorder of the process is installed by then.
    counter: OnceLock<Counter>,
    warning: Warning,
}

impl Losses {
    pub(super) fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), count: Count::default(), counter: OnceLock::new(), warning: Warning::new() }
    }

    /// Shows the metric, so that its first increase is visible.
    pub(super) fn announce(&self) {
        self.counter();
    }

    pub(super) fn add(&self) {
        self.count.add();
        self.counter().increment();
        if let Some(unsaid) = self.warning.due() {
            tracing::warn!(sink = self.sink, unsaid, "an audit event is lost");
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.count.get()
    }

    fn counter(&self) -> &Counter {
        self.counter.get_or_init(|| Counter::new("mcp_patterns_audit_lost_total", &[("sink", &self.sink)]))
    }
}
