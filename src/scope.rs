//! What layers hand to the tool body: one task-local with an entry for each kind of thing.
//!
//! It does not cross `tokio::spawn`: shared work runs in nobody's scope, and a call that must stay in its scope (a tool inside
//! a transaction) is not shared.

use std::any::{Any, TypeId};
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static SCOPE: Option<Arc<Entry>>;
}

/// A list, innermost first: a call that opens a second transaction hides the first.
struct Entry {
    kind: TypeId,
    value: Arc<dyn Any + Send + Sync>,
    outer: Option<Arc<Entry>>,
}

/// Runs `future` where [`current`] finds `value`.
pub(crate) async fn enter<T: Send + Sync + 'static, F: Future>(value: Arc<T>, future: F) -> F::Output {
    let outer = SCOPE.try_with(Clone::clone).ok().flatten();
    SCOPE.scope(Some(Arc::new(Entry { kind: TypeId::of::<T>(), value, outer })), future).await
}

/// Returns the innermost entry of this kind.
pub(crate) fn current<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    let mut entry = SCOPE.try_with(Clone::clone).ok().flatten();
    while let Some(found) = &entry {
        if found.kind == TypeId::of::<T>() {
            return Arc::clone(&found.value).downcast().ok();
        }
        entry = found.outer.clone();
    }
    None
}

/// Says whether the call depends on something that only its own task knows.
pub(crate) fn is_entered() -> bool {
    SCOPE.try_with(Option::is_some).unwrap_or(false)
}
