//! The handle of the layer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::concurrency::InUse;
use super::limits::Limits;
use super::plan::ToolPlan;
use crate::selection::Plan;
use crate::telemetry::Count;

/// A handle to the counters of a [`LimitedTool`](super::LimitedTool). Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Handled>);

/// What a handle shows.
#[derive(Default)]
pub(super) struct Handled {
    pub(super) admitted: Count,
    pub(super) refused_by_rate: Count,
    pub(super) refused_by_concurrency: Count,
    pub(super) timed_out: Count,
    /// The plan and the limits on the server that the layer was put on last.
    pub(super) bound: ArcSwapOption<(Plan<Arc<ToolPlan>>, Limits)>,
}

/// What a [`LimitedTool`](super::LimitedTool) has done since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were let through.
    pub admitted: u64,
    /// Calls that were refused because of a rate.
    pub refused_by_rate: u64,
    /// Calls that were refused because too many calls ran or waited, or because they had waited too long.
    pub refused_by_concurrency: u64,
    /// Calls that were ended after the timeout.
    pub timed_out: u64,
    /// Questions to the backend that failed, or were not answered in time. The process decided these calls alone.
    pub backend_failures: u64,
    /// The tools and principals that have an entry of their own in the tables.
    pub entries: usize,
}

impl Handle {
    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.0.bound.load().as_ref().map(|bound| bound.0.tools()).unwrap_or_default()
    }

    /// Returns how many calls of a tool may run, run and wait, by its concurrency [per tool](super::Per::Tool). `None` without one, or
    /// before the first call.
    #[must_use]
    pub fn concurrency(&self, tool: &str) -> Option<InUse> {
        self.0.bound.load().as_ref()?.1.places_of(tool).map(|places| places.in_use())
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            admitted: self.0.admitted.get(),
            refused_by_rate: self.0.refused_by_rate.get(),
            refused_by_concurrency: self.0.refused_by_concurrency.get(),
            timed_out: self.0.timed_out.get(),
            backend_failures: self.0.bound.load().as_ref().map_or(0, |bound| bound.1.backend_failures()),
            entries: self.0.bound.load().as_ref().map_or(0, |bound| bound.1.entries()),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.stats()).finish()
    }
}
