//! The metrics and log events of a tool's calls.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::{Gauge, Histogram};

/// The instruments of a tool.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) tool: String,
    size: Histogram,
    wait: Histogram,
    queue: Gauge,
}

impl Instruments {
    pub(super) fn new(tool: &str) -> Self {
        let labels = [("tool", tool)];
        Self {
            tool: tool.to_owned(),
            size: Histogram::new("mcp_patterns_batch_size", &labels),
            wait: Histogram::new("mcp_patterns_batch_wait_seconds", &labels),
            queue: Gauge::new("mcp_patterns_batch_queue", &labels),
        }
    }

    pub(super) fn sent(&self, size: usize) {
        tracing::debug!(tool = self.tool, batch = size, "sent");
        self.size.record(size as f64);
    }
}

/// Counts a call as waiting for as long as this lives.
#[derive(Debug)]
pub(super) struct InQueue(Arc<Instruments>);

impl InQueue {
    pub(super) fn enter(instruments: Arc<Instruments>) -> Self {
        instruments.queue.increment();
        Self(instruments)
    }

    /// Records that the call is sent.
    pub(super) fn leave(self, waited: Duration) {
        self.0.wait.record(waited.as_secs_f64());
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        self.0.queue.decrement();
    }
}
