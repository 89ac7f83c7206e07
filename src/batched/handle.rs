use super::batcher::Stats;
use super::call::Calls;

/// A handle to the counters of a [`BatchedTool`](super::BatchedTool). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) calls: Calls,
}

impl Handle {
    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.calls.stats()
    }
}
