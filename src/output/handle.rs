//! The handle of the layer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::plan::ToolPlan;
use super::store::Store;
use crate::selection::Plan;
use crate::telemetry::{Count, Warning};

/// A handle to the counters of an [`OutputTool`](super::OutputTool). Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Handled>);

/// What a handle shows.
#[derive(Default)]
pub(super) struct Handled {
    pub(super) cut: Count,
    pub(super) spilled: Count,
    pub(super) whole: Count,
    pub(super) too_large: Count,
    pub(super) read: Count,
    /// Limits how often the log says that an answer was passed whole.
    pub(super) warning: Warning,
    /// The plan and the store on the server that the layer was put on last.
    pub(super) bound: ArcSwapOption<(Plan<Arc<ToolPlan>>, Option<Store>)>,
}

/// What an [`OutputTool`](super::OutputTool) has done since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Answers that were cut, and errors.
    pub cut: u64,
    /// Answers that were kept whole, with a link in place of their end.
    pub spilled: u64,
    /// Answers that were passed whole although they are above the bounds.
    pub whole: u64,
    /// Answers that were replaced by an error, since their structured content cannot be cut.
    pub too_large: u64,
    /// How often a kept answer was read.
    pub read: u64,
    /// The answers that are kept at the moment.
    pub kept: usize,
    /// The bytes of these answers.
    pub kept_bytes: usize,
}

impl Handle {
    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.0.bound.load().as_ref().map(|bound| bound.0.tools()).unwrap_or_default()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let bound = self.0.bound.load();
        let store = bound.as_ref().and_then(|bound| bound.1.as_ref());
        let (kept, kept_bytes) = store.map(Store::size).unwrap_or_default();
        Stats {
            cut: self.0.cut.get(),
            spilled: self.0.spilled.get(),
            whole: self.0.whole.get(),
            too_large: self.0.too_large.get(),
            read: self.0.read.get(),
            kept,
            kept_bytes,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.stats()).finish()
    }
}
