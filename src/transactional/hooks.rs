//! The hooks and invalidations that run after the commit.

#[cfg(feature = "cached")]
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[cfg(feature = "cached")]
use crate::scope::{self, Scoped};
use crate::telemetry::Warning;

/// A hook of a user.
pub(super) type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// An invalidation of a layer of this crate. It bounds its own time, and may run twice.
pub(super) type Invalidation = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The invalidation of a layer around a transaction, as the call scope holds it.
#[cfg(feature = "cached")]
struct Around(Invalidation);

#[cfg(feature = "cached")]
impl Scoped for Around {}

/// Runs `call`, and `invalidation` at the end of each transaction in it that is committed, or may be. The invalidation
/// runs before the hooks of that transaction, so before a hook can announce the commit.
#[cfg(feature = "cached")]
pub(crate) fn invalidating<I, F, C>(invalidation: I, call: C) -> impl Future<Output = C::Output>
where
    I: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
    C: Future,
{
    let around = Arc::new(Around(Arc::new(move || invalidation().boxed())));
    scope::capture().with(around).enter(call)
}

/// The hooks and invalidations that are registered in a transaction.
#[derive(Default)]
pub(super) struct Hooks {
    /// They run first and wait for no hook, also if it is not known whether the transaction was committed.
    pub(super) invalidations: Vec<Invalidation>,
    /// They run one after the other.
    pub(super) after_commit: Vec<Hook>,
}

impl Hooks {
    /// Adds the invalidations of layers around the transaction.
    #[cfg(feature = "cached")]
    pub(super) fn add_those_around(&mut self) {
        self.invalidations.extend(scope::all::<Around>().map(|around| Arc::clone(&around.0)));
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.invalidations.extend(others.invalidations);
        self.after_commit.extend(others.after_commit);
    }

    /// Runs all of them in their own task, so that a caller who leaves does not stop them.
    pub(super) fn run(self) -> Option<Running> {
        if self.invalidations.is_empty() && self.after_commit.is_empty() {
            return None;
        }
        let (tell, invalidated) = oneshot::channel();
        let all = tokio::spawn(async move {
            invalidate(&self.invalidations).await;
            let _ = tell.send(());
            for hook in self.after_commit {
                // A hook that panics stops neither the answer nor the other hooks.
                if AssertUnwindSafe(async { hook().await }).catch_unwind().await.is_err() {
                    static PANICKING: Warning = Warning::new();
                    if let Some(unsaid) = PANICKING.due() {
                        tracing::warn!(unsaid, "a hook after a commit panicked");
                    }
                }
            }
        });
        Some(Running { invalidated, all })
    }
}

/// Runs all invalidations concurrently.
pub(super) async fn invalidate(invalidations: &[Invalidation]) {
    let all = invalidations.iter().map(|invalidation| async {
        if AssertUnwindSafe(async { invalidation().await }).catch_unwind().await.is_err() {
            tracing::error!(
                "an invalidation after a commit panicked: cached values may be out of date until their ttl ends"
            );
        }
    });
    join_all(all).await;
}

/// Running hooks.
pub(super) struct Running {
    invalidated: oneshot::Receiver<()>,
    all: JoinHandle<()>,
}

impl Running {
    /// Waits for all invalidations, and then for the hooks of the user, but no longer than `limit`. Hooks that take longer continue.
    pub(super) async fn wait(self, limit: Duration) {
        // An error means that the runtime shuts down.
        let _ = self.invalidated.await;
        let _ = timeout(limit, self.all).await;
    }
}

#[cfg(test)]
mod tests;
