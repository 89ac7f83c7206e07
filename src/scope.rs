//! The values that layers pass to the tool body: one task-local with an entry for each kind of value.
//!
//! It does not cross `tokio::spawn`. Shared work runs in the scope of the call that began it, which it [captures](capture). A call
//! that must stay in its own task (a tool inside a transaction) is not shared.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

use crate::key_hash::KeyHash;

/// A value that a layer passes to the tool body, and the facts about it that other layers may read.
pub(crate) trait Scoped: Any + Send + Sync {
    /// Returns the id of the session that the tool can open, if this is a session entry: `Some(None)` where the call has no session.
    fn session_id(&self) -> Option<Option<Arc<str>>> {
        None
    }

    /// Returns the tool that is called.
    fn tool(&self) -> Option<Arc<str>> {
        None
    }

    /// Says whether the call is inside a transaction.
    fn is_transaction(&self) -> bool {
        false
    }

    /// Says whether the call continues an earlier one, with the client's answers to its questions.
    fn is_continuation(&self) -> bool {
        false
    }

    /// Returns the tool that is called with an idempotency key, and the key's hash.
    fn keyed_call(&self) -> Option<(&str, KeyHash)> {
        None
    }
}

tokio::task_local! {
    static SCOPE: Captured;
}

/// A list, innermost first: a call that opens a second transaction hides the first.
struct Entry {
    value: Arc<dyn Scoped>,
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

    /// Runs `work` in this scope, on a thread of its own.
    pub(crate) fn run<A>(self, work: impl FnOnce() -> A) -> A {
        SCOPE.sync_scope(self, work)
    }

    /// Returns the scope in which [`current`] finds `value`, within this one.
    pub(crate) fn with<T: Scoped>(self, value: Arc<T>) -> Self {
        Self(Some(Arc::new(Entry { value, outer: self })))
    }

    fn of_kind<T: Scoped>(self) -> impl Iterator<Item = Arc<T>> {
        std::iter::successors(self.0, |entry| entry.outer.0.clone()).filter_map(|entry| {
            let value: Arc<dyn Any + Send + Sync> = Arc::<dyn Scoped>::clone(&entry.value);
            value.downcast().ok()
        })
    }

    /// Returns the first answer, the innermost entry asked first.
    fn find<T>(&self, ask: impl FnMut(&dyn Scoped) -> Option<T>) -> Option<T> {
        std::iter::successors(self.0.as_deref(), |entry| entry.outer.0.as_deref())
            .map(|entry| &*entry.value)
            .find_map(ask)
    }
}

/// Returns the scope of the call that runs here.
pub(crate) fn capture() -> Captured {
    SCOPE.try_with(Clone::clone).unwrap_or_default()
}

/// Returns the innermost entry of this kind.
pub(crate) fn current<T: Scoped>() -> Option<Arc<T>> {
    capture().of_kind().next()
}

/// Returns all entries of this kind, the innermost first.
pub(crate) fn all<T: Scoped>() -> impl Iterator<Item = Arc<T>> {
    capture().of_kind()
}

/// Returns the id of the session that a layer further out has found for the call. It does not count as opening the session.
pub(crate) fn session_id() -> Option<Arc<str>> {
    find(Scoped::session_id).flatten()
}

/// Returns the tool of the innermost call that a layer knows the tool of.
pub(crate) fn tool() -> Option<Arc<str>> {
    find(Scoped::tool)
}

/// Says whether the call is inside a transaction: then it may see what no other call may see yet.
pub(crate) fn is_in_transaction() -> bool {
    find(|value| value.is_transaction().then_some(())).is_some()
}

/// Says whether no other call may get the answer of this one: it is inside a transaction, or continues an earlier call.
pub(crate) fn must_run_alone() -> bool {
    find(|value| (value.is_transaction() || value.is_continuation()).then_some(())).is_some()
}

/// Returns the tool and the key's hash of the call that runs here, where it has a key.
pub(crate) fn keyed_call() -> Option<(Arc<str>, KeyHash)> {
    find(|value| value.keyed_call().map(|(tool, key)| (tool.into(), key)))
}

fn find<T>(ask: impl FnMut(&dyn Scoped) -> Option<T>) -> Option<T> {
    SCOPE.try_with(|captured| captured.find(ask)).ok().flatten()
}
