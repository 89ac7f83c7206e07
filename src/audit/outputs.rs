//! What receives the events of a layer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::field::{debug, display};

use super::LAYER;
use super::buffered::Buffered;
use super::event::{Event, Principal};
use super::losses::Losses;
use super::queue::Room;
use crate::ConfigError;

/// What receives the events of a layer.
#[derive(Clone)]
pub(super) enum Output {
    Function(Arc<dyn Fn(&Event) + Send + Sync>),
    Tracing,
    Buffer(Buffered),
}

/// The longest time that the end of the server waits for the buffers.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl Output {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Function(_) => "function",
            Self::Tracing => "tracing",
            Self::Buffer(buffer) => buffer.name(),
        }
    }

    fn record(&self, event: &Arc<Event>, room: Option<Room>) {
        match self {
            Self::Function(function) => function(event),
            Self::Tracing => trace(event),
            Self::Buffer(buffer) => buffer.record(event, room),
        }
    }
}

/// The outputs of a layer, in the order in which they were added.
#[derive(Clone, Default)]
pub(super) struct Outputs(pub(super) Vec<Output>);

impl Outputs {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            let reason = "no event would be recorded: add `with_tracing`, `with_sink` or `with_buffer`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        self.buffers().try_for_each(Buffered::check)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(Output::name).collect()
    }

    pub(super) fn buffers(&self) -> impl Iterator<Item = &Buffered> {
        self.0.iter().filter_map(|output| if let Output::Buffer(buffer) = output { Some(buffer) } else { None })
    }

    pub(super) fn must_wait(&self) -> bool {
        self.buffers().any(Buffered::must_wait)
    }

    /// Waits for room in each buffer that is full, in the order of the buffers.
    pub(super) async fn rooms(&self) -> Vec<Option<Room>> {
        join_all(self.buffers().map(async |buffer| if buffer.must_wait() { buffer.reserve().await } else { None }))
            .await
    }

    /// Gives the event to each output. The panic of one of them reaches neither the caller nor the other outputs.
    pub(super) fn record(&self, event: &Arc<Event>, rooms: Vec<Option<Room>>, panicked: &Losses) {
        let mut rooms = rooms.into_iter();
        for output in &self.0 {
            let room = if matches!(output, Output::Buffer(_)) { rooms.next().flatten() } else { None };
            if catch_unwind(AssertUnwindSafe(|| output.record(event, room))).is_err() {
                panicked.add();
            }
        }
    }

    pub(super) async fn flush(&self) {
        join_all(self.buffers().map(Buffered::flush)).await;
    }

    /// Waits for the buffers at the end of the server.
    pub(super) async fn shut_down(&self) {
        if timeout(SHUTDOWN_TIMEOUT, self.flush()).await.is_err() {
            for buffer in self.buffers() {
                let pending = buffer.stats().pending;
                if pending > 0 {
                    tracing::error!(
                        sink = buffer.name(),
                        pending,
                        "the server stops before its audit events are written"
                    );
                }
            }
        }
    }
}

fn trace(event: &Event) {
    let principal = event.principal.as_ref().and_then(Principal::name);
    let (kind, arguments) = (event.kind.map(debug), event.arguments.as_ref().map(display));
    let duration_ms = u64::try_from(event.duration.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "mcp_patterns::audit",
        id = event.id,
        tool = event.tool,
        end = event.end.as_str(),
        layer = event.layer,
        reason = event.reason,
        kind,
        attempts = event.attempts,
        duration_ms,
        principal,
        session = event.session,
        request_id = event.request_id,
        trace_id = event.trace_id,
        arguments,
        argument_bytes = event.argument_bytes,
        answer_bytes = event.answer_bytes,
        "a call ended"
    );
}
