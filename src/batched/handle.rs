use super::batcher::Stats;
use super::call::Calls;

/// Tells how a [`BatchedTool`](super::BatchedTool) is doing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) calls: Calls,
}

impl Handle {
    /// Says how the layer is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.calls.stats()
    }
}
