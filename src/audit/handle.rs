//! The handle of the layer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::buffered::Buffered;
use super::losses::Losses;
use super::plan::ToolPlan;
use super::settings::Settings;
use crate::selection::Plan;
use crate::telemetry::Count;

/// A handle to the counters and buffers of an [`AuditTool`](super::AuditTool). Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Handled>);

/// What a handle shows.
pub(super) struct Handled {
    pub(super) events: Count,
    /// The events that a function lost, because it panicked.
    pub(super) panicked: Losses,
    /// The plan and the settings on the server that the layer was put on last.
    pub(super) bound: ArcSwapOption<(Plan<Arc<ToolPlan>>, Arc<Settings>)>,
}

impl Handled {
    pub(super) fn new() -> Self {
        Self { events: Count::default(), panicked: Losses::new("function"), bound: ArcSwapOption::empty() }
    }
}

/// What an [`AuditTool`](super::AuditTool) has recorded since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Events: one for each call that has ended.
    pub events: u64,
    /// Events that did not reach a sink, counted once for each sink: a buffer was full, or a function panicked. A buffer that several
    /// layers have counts the events of all of them.
    pub lost: u64,
    /// Events that wait in the buffers.
    pub pending: usize,
}

impl Handle {
    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.0.bound.load().as_ref().map(|bound| bound.0.tools()).unwrap_or_default()
    }

    /// Returns the counters, with those of the buffers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let bound = self.0.bound.load();
        let buffers = || bound.iter().flat_map(|bound| bound.1.outputs.buffers()).map(Buffered::stats);
        Stats {
            events: self.0.events.get(),
            lost: self.0.panicked.get() + buffers().map(|buffer| buffer.lost).sum::<u64>(),
            pending: buffers().map(|buffer| buffer.pending).sum(),
        }
    }

    /// Waits until all events that are in the buffers now are written: see [`Buffered::flush`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use mcp_patterns::AuditTool;
    /// use mcp_patterns::audit::{Buffered, JsonLines};
    /// use mcp_patterns::testing::ScriptedServer;
    /// use mcp_patterns::Layer;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let audit =
    ///     AuditTool::new().with_buffer(Buffered::new(JsonLines::new(tokio::io::stderr())));
    /// let handle = audit.handle();
    /// let server = audit.layer(ScriptedServer::new("shop"));
    /// // After the server:
    /// tokio::time::timeout(Duration::from_secs(5), handle.flush()).await?;
    /// # Ok(()) }
    /// ```
    pub async fn flush(&self) {
        let bound = self.0.bound.load_full();
        if let Some(bound) = bound {
            bound.1.outputs.flush().await;
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.stats()).finish()
    }
}
