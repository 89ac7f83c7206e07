//! How the value of a key is got: from memory, from a load under way, or by a load that begins.

use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;

use super::Cache;
use super::error::LoadError;
use super::loader::{Loading, Outcome, Plan, Reason};
use super::single_flight::Waiter;
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::shared_work::{Waits, Work};

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// [`get_or_load`](Self::get_or_load) for an entry with a ttl of its own that several things can invalidate.
    pub(crate) async fn get_or_load_in(
        &self,
        caller: &impl Waits,
        key: K,
        domains: &[InvalidationKey],
        ttl: Duration,
        load: impl FnOnce(&Arc<Work>) -> Loading<V, E>,
    ) -> Outcome<V, E> {
        let (settings, shared) = (&self.settings, self.shared());
        if let Some(looked) = shared.look(settings, &key, domains) {
            match looked.verdict {
                Verdict::Fresh | Verdict::Held => return Ok(shared.hit(&looked)),
                Verdict::Due | Verdict::Stale => {
                    shared.refresh(settings, key, &Plan { domains, ttl, reason: Reason::Refresh }, load);
                    return Ok(shared.hit(&looked));
                }
                Verdict::Fallback | Verdict::Dead => {}
            }
        }
        if let Some(error) = shared.find_failure(settings, &key, domains) {
            return Err(error);
        }
        if caller.is_cancelled() {
            return Err(E::cancelled());
        }
        // On the heap, so that a hit has no load to carry along.
        Box::pin(async move {
            let plan = Plan { domains, ttl, reason: Reason::Asked };
            let joined = shared.flights.join(
                key,
                &shared.generations.watch(domains),
                // A load may have ended between the look above and the one under the lock.
                |key| shared.find(settings, key, domains),
                |begun| {
                    let source = load(&begun.work);
                    shared.load(settings, begun, &plan, source)
                },
            );
            match joined {
                Either::Left(hit) => Ok(hit),
                Either::Right(waiter) => {
                    caller.join(&waiter.work);
                    self.wait(caller, waiter).await
                }
            }
        })
        .await
    }

    /// [`refresh`](Self::refresh) for an entry with a ttl of its own that several things can invalidate.
    pub(crate) async fn refresh_in(
        &self,
        caller: &impl Waits,
        key: K,
        domains: &[InvalidationKey],
        ttl: Duration,
        load: impl FnOnce(&Arc<Work>) -> Loading<V, E>,
    ) -> Outcome<V, E> {
        let (settings, shared) = (&self.settings, self.shared());
        let plan = Plan { domains, ttl, reason: Reason::Forced };
        let waiter = shared.flights.supersede(key, &shared.generations.watch(domains), |begun| {
            let source = load(&begun.work);
            shared.load(settings, begun, &plan, source)
        });
        self.wait(caller, waiter).await
    }

    async fn wait(&self, caller: &impl Waits, mut waiter: Waiter<Outcome<V, E>>) -> Outcome<V, E> {
        self.shared().counts.misses.add();
        match caller.wait(pin!(waiter.outcome())).await {
            Some(outcome) => outcome.unwrap_or_else(|| Err(E::lost())),
            None => Err(E::cancelled()),
        }
    }
}
