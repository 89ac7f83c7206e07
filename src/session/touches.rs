//! The reports to the backend that a session is in use: at most one at a time for each session.

use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashSet;

/// The sessions whose use is being reported.
#[derive(Clone, Default)]
pub(super) struct Touches(Arc<Mutex<HashSet<Arc<str>>>>);

impl Touches {
    /// Begins a report, unless one is in progress.
    pub(super) fn begin(&self, id: &Arc<str>) -> Option<Touch> {
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(id));
        is_first.then(|| Touch { id: Arc::clone(id), touches: self.clone() })
    }
}

/// A report in progress. Its drop allows the next one.
pub(super) struct Touch {
    id: Arc<str>,
    touches: Touches,
}

impl Touch {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Touch {
    fn drop(&mut self) {
        self.touches.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
