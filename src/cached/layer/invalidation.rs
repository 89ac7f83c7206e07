//! The invalidation by a call that writes.

use std::future::Future;
#[cfg(feature = "transactional")]
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
#[cfg(feature = "transactional")]
use futures_util::future::Either;

use super::plan::Results;
use crate::cached::first_level::invalidation_key::InvalidationKey;

/// The keys that a call of a writing tool invalidates. Dropped while it is armed, it invalidates them: the call may have taken effect.
pub(in crate::cached) struct PendingInvalidation(Option<(Results, Vec<InvalidationKey>)>);

impl PendingInvalidation {
    pub(in crate::cached) fn new(results: &Results, keys: Vec<InvalidationKey>) -> Self {
        Self(Some((results.clone(), keys)))
    }

    /// Invalidates nothing: the call took no effect.
    pub(in crate::cached) fn disarm(mut self) {
        self.0 = None;
    }

    /// Invalidates the keys now or, inside a transaction, after its commit: the call has succeeded, or may have taken effect although
    /// it failed.
    pub(in crate::cached) async fn apply(mut self) {
        let Some(action) = self.action() else { return };
        self.0 = None;
        #[cfg(feature = "transactional")]
        let Err(action) = crate::transactional::invalidate_after_commit(action) else { return };
        action().await;
    }

    /// Invalidates the keys now and, inside a transaction, again after its commit: until then, other callers load the old state.
    pub(in crate::cached) async fn apply_now(mut self) {
        let Some(action) = self.action() else { return };
        self.0 = None;
        #[cfg(feature = "transactional")]
        let action = Arc::new(action);
        #[cfg(feature = "transactional")]
        drop(crate::transactional::invalidate_after_commit({
            let action = Arc::clone(&action);
            move || action()
        }));
        action().await;
    }

    /// Makes the call. If it commits a transaction, the keys are invalidated after that commit too, before its hooks, which may tell
    /// clients to read again.
    #[cfg(feature = "transactional")]
    pub(in crate::cached) fn around<C: Future>(&self, call: C) -> impl Future<Output = C::Output> {
        match self.action() {
            Some(action) => Either::Left(crate::transactional::invalidating(action, call)),
            None => Either::Right(call),
        }
    }

    #[cfg(not(feature = "transactional"))]
    #[expect(clippy::unused_self, reason = "it is used with transactions")]
    pub(in crate::cached) fn around<C: Future>(&self, call: C) -> C {
        call
    }

    /// Returns a function that invalidates the keys at each call, and waits until the second level has received them.
    fn action(&self) -> Option<impl Fn() -> BoxFuture<'static, ()> + Send + Sync + use<>> {
        let (results, keys) = self.0.clone()?;
        Some(move || {
            let (results, keys) = (results.clone(), keys.clone());
            async move {
                results.loader.invalidate(&keys);
                results.synced().await;
            }
            .boxed()
        })
    }
}

impl Drop for PendingInvalidation {
    fn drop(&mut self) {
        if let Some((results, keys)) = &self.0 {
            results.loader.invalidate(keys);
        }
    }
}
