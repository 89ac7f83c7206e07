//! The memory of this process: what is there, what may be done with it, and what is kept.

pub(super) mod entry;
pub(super) mod freshness;
pub(super) mod generations;
pub(super) mod invalidation_key;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::error::LoadError;
use super::cache::link::Job;
use super::cache::loader::{Shared, Source};
use super::cache::settings::Settings;
use super::cache::single_flight::Load;
use super::second_level::Generation;
use entry::{Life, Slot};
use freshness::Verdict;
use invalidation_key::InvalidationKey;

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Looks a value up in this process' memory.
    pub(super) fn look(&self, settings: &Settings<K, V, E>, key: &K, domains: &[InvalidationKey]) -> Option<Looked<V>> {
        let slot = self.store.get(key)?;
        let now = Instant::now();
        let verdict = self.judge(settings, &slot, domains, now);
        Some(Looked { slot, verdict, now })
    }

    /// Looks for a value that can be served as it is.
    pub(super) fn find(
        &self,
        settings: &Settings<K, V, E>,
        key: &K,
        domains: &[InvalidationKey],
    ) -> Option<(V, Source)> {
        let looked = self.look(settings, key, domains)?;
        (!matches!(looked.verdict, Verdict::Fallback | Verdict::Dead)).then(|| self.hit(&looked))
    }

    pub(super) fn hit(&self, looked: &Looked<V>) -> (V, Source) {
        let age = looked.slot.age(looked.now);
        self.counts.hits.add();
        let source = if matches!(looked.verdict, Verdict::Fresh | Verdict::Due) {
            Source::Hit { age, level: 1 }
        } else {
            self.counts.stale_hits.add();
            Source::Stale { age, level: 1 }
        };
        (looked.slot.value.clone(), source)
    }

    /// Looks for a failure that was kept.
    pub(super) fn find_failure(&self, settings: &Settings<K, V, E>, key: &K, domains: &[InvalidationKey]) -> Option<E> {
        settings.negative.as_ref()?;
        let slot = self.failures.get(key)?;
        let now = Instant::now();
        if !slot.is_fresh(now, self.trust(settings)) || !self.generations.is_current(slot.stamp, domains) {
            return None;
        }
        self.counts.negative_hits.add();
        Some(slot.value.clone().told_again(slot.age(now)))
    }

    /// Keeps the value of a load, here and, with the `generation` from before it, in the second level. See [`Flights::keep`].
    pub(super) fn keep(
        &self,
        settings: &Settings<K, V, E>,
        load: &Load<K>,
        domains: &[InvalidationKey],
        value: &V,
        life: Life,
        generation: Option<Generation>,
    ) {
        // Before the lock: how a value is weighed and cloned is not ours.
        let weight = settings.weigh(&load.key, value);
        let slot = weight.map(|weight| Arc::new(Slot::new(value.clone(), load.stamp, life, weight)));
        let (key, shared) = (load.key.clone(), generation.map(|generation| (load.key.clone(), generation)));
        self.flights.keep(load, &self.generations.watch(domains), || {
            if let (Some(link), Some(slot), Some((key, generation))) = (&self.link, &slot, shared) {
                link.queue(Job::Put { key, slot: Arc::clone(slot), generation });
            }
            self.put(key, slot);
        });
    }

    /// Puts a value in the place of what there is, unless it is too large, and drops the failure that came before it.
    pub(super) fn put(&self, key: K, slot: Option<Arc<Slot<V>>>) {
        self.failures.remove(&key);
        if let Some(slot) = slot {
            self.store.put(key, slot);
        }
    }

    fn judge(
        &self,
        settings: &Settings<K, V, E>,
        slot: &Slot<V>,
        domains: &[InvalidationKey],
        now: Instant,
    ) -> Verdict {
        let is_current = self.generations.is_current(slot.stamp, domains);
        slot.judge(is_current, now, &settings.freshness, settings.idle_time, self.trust(settings))
    }

    /// How long what is kept here may be served without asking the second level.
    fn trust(&self, settings: &Settings<K, V, E>) -> Duration {
        self.link.as_ref().map_or(Duration::MAX, |link| link.trust(settings))
    }
}

/// A value that was found, and what may be done with it.
pub(super) struct Looked<V> {
    slot: Arc<Slot<V>>,
    pub(super) verdict: Verdict,
    now: Instant,
}

impl<V> Looked<V> {
    pub(super) fn age(&self) -> Duration {
        self.slot.age(self.now)
    }

    /// Lets no refresh begin for a while, because one has failed.
    pub(super) fn hold(&self) {
        self.slot.hold(self.now);
    }
}

impl<V: Clone> Looked<V> {
    /// The value, served past its ttl.
    pub(super) fn stale(&self) -> (V, Source) {
        (self.slot.value.clone(), Source::Stale { age: self.age(), level: 1 })
    }
}
