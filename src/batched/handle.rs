use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::batcher::Stats;
use super::call::Calls;
use super::plan::ToolPlan;
use crate::selection::Plan;

/// The plan of the server that a layer was put on last.
pub(super) type BoundPlan = Arc<ArcSwapOption<Plan<Arc<ToolPlan>>>>;

/// A handle to the counters of a [`BatchedTool`](super::BatchedTool). Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) calls: Calls,
    pub(super) bound: BoundPlan,
}

impl Handle {
    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.bound.load().as_ref().map(|plan| plan.tools()).unwrap_or_default()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.calls.stats()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("calls", &self.calls).finish_non_exhaustive()
    }
}
