//! What layers hand to the tool body: one task-local with an entry for each kind of thing.
//!
//! It does not cross `tokio::spawn`. Shared work runs in the scope of the call that began it, which it [captures](capture); a call
//! that must stay in its own task (a tool inside a transaction) is not shared.

use std::any::{Any, TypeId};
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static SCOPE: Captured;
}

/// A list, innermost first: a call that opens a second transaction hides the first.
struct Entry {
    kind: TypeId,
    value: Arc<dyn Any + Send + Sync>,
    outer: Captured,
}

/// The scope of a call, to be entered again in another task.
#[derive(Clone, Default)]
pub(crate) struct Captured(Option<Arc<Entry>>);

impl Captured {
    /// Runs `future` in this scope.
    // Not an `async fn`: that would store `future` twice.
    pub(crate) fn enter<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, future)
    }

    /// Returns the scope in which [`current`] finds `value`, within this one.
    pub(crate) fn with<T: Send + Sync + 'static>(self, value: Arc<T>) -> Self {
        Self(Some(Arc::new(Entry { kind: TypeId::of::<T>(), value, outer: self })))
    }

    fn of_kind<T: Send + Sync + 'static>(self) -> impl Iterator<Item = Arc<T>> {
        std::iter::successors(self.0, |entry| entry.outer.0.clone())
            .filter(|entry| entry.kind == TypeId::of::<T>())
            .filter_map(|entry| Arc::clone(&entry.value).downcast().ok())
    }
}

/// Returns the scope of the call that runs here.
pub(crate) fn capture() -> Captured {
    SCOPE.try_with(Clone::clone).unwrap_or_default()
}

/// Returns the innermost entry of this kind.
pub(crate) fn current<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    capture().of_kind().next()
}

/// Returns all entries of this kind, the innermost first.
pub(crate) fn all<T: Send + Sync + 'static>() -> impl Iterator<Item = Arc<T>> {
    capture().of_kind()
}
