//! The events of a connection to Redis: they are counted and logged.

use redis::RedisError;

use crate::telemetry::{Counter, Outage, Over};

pub(super) struct Events {
    address: String,
    counters: [Counter; Event::ALL.len()],
    outage: Outage,
}

/// An event of a connection.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Opened,
    Failed,
    Lost,
    Silent,
}

impl Event {
    /// In the order of the variants.
    const ALL: [&'static str; 4] = ["opened", "failed", "lost", "silent"];
}

impl Events {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            counters: Event::ALL.map(|event| Counter::new("mcp_patterns_redis_connections_total", &[("event", event)])),
            outage: Outage::default(),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn count(&self, event: Event) {
        self.counters[event as usize].increment();
    }

    /// An attempt to connect failed.
    pub(super) fn failed(&self, error: &RedisError) {
        self.count(Event::Failed);
        if let Some(unsaid) = self.outage.failed() {
            let address = self.address();
            tracing::warn!(address, %error, unsaid, "no connection to Redis: the next command that needs one tries again");
        }
    }

    /// A connection is lost, or does not answer, and is replaced.
    pub(super) fn replaced(&self, event: Event) {
        self.count(event);
        let Some(unsaid) = self.outage.failed() else { return };
        let address = self.address();
        match event {
            Event::Silent => tracing::warn!(address, unsaid, "a connection to Redis does not answer, and is replaced"),
            _ => tracing::warn!(address, unsaid, "a connection to Redis is lost, and is replaced"),
        }
    }

    /// A connection gave its first answer.
    pub(super) fn works(&self) {
        if let Some(Over { after_ms, failures }) = self.outage.worked() {
            let address = self.address();
            tracing::info!(address, after_ms, failures, "Redis is connected again");
        }
    }
}
