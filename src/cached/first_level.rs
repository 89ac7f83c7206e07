//! The first level: the values and failures in the memory of this process, and which of them may be served.

pub(super) mod entry;
pub(super) mod freshness;
pub(super) mod generations;
pub(super) mod invalidation_key;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use entry::{Bounds, Entry, Policy, Store};
use freshness::Verdict;
use generations::Generations;
use invalidation_key::InvalidationKey;

/// How many failures are kept at most.
const MAX_FAILURES: usize = 1_000;

pub(super) struct FirstLevel<K, V, E> {
    values: Store<K, V>,
    failures: Store<K, E>,
    pub(super) generations: Generations,
}

impl<K, V, E> FirstLevel<K, V, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) fn new(bounds: &Bounds<K, V>) -> Self {
        Self {
            values: Store::new(bounds),
            failures: Store::new(&Bounds { max_entries: MAX_FAILURES.min(bounds.max_entries), bytes: None }),
            generations: Generations::of_process(),
        }
    }

    /// Looks up the value of `key`, which one of `keys` invalidates, and judges whether it may be served.
    pub(super) fn probe(&self, key: &K, keys: &[InvalidationKey], policy: &Policy<'_>) -> Option<Probe<V>> {
        let entry = self.values.get(key)?;
        let now = Instant::now();
        let is_current = self.generations.is_current(entry.stamp, keys);
        let verdict = entry.judge(is_current, now, policy);
        Some(Probe { entry, verdict, now })
    }

    /// Looks up the failure that was kept for `key`.
    pub(super) fn failure(&self, key: &K, keys: &[InvalidationKey], trust: Duration) -> Option<KeptFailure<E>>
    where
        E: Clone,
    {
        let entry = self.failures.get(key)?;
        let now = Instant::now();
        let is_servable = entry.is_fresh(now, trust) && self.generations.is_current(entry.stamp, keys);
        is_servable.then(|| KeptFailure { error: entry.value.clone(), age: entry.age(now), stamp: entry.stamp })
    }

    /// Replaces the value of `key`, unless the new one is `None` because it is too large, and drops the failure that was kept.
    pub(super) fn put(&self, key: K, entry: Option<Arc<Entry<V>>>) {
        self.failures.remove(&key);
        if let Some(entry) = entry {
            self.values.put(key, entry);
        }
    }

    pub(super) fn put_failure(&self, key: K, failure: Arc<Entry<E>>) {
        self.failures.put(key, failure);
    }

    pub(super) fn remove(&self, key: &K) {
        self.values.remove(key);
    }

    pub(super) fn clear(&self) {
        self.generations.invalidate_all();
        self.values.clear();
    }

    /// How many values there are, and what they weigh.
    pub(super) fn size(&self, bounds: &Bounds<K, V>) -> (u64, u64) {
        self.values.size(bounds)
    }
}

/// A failure that was found.
pub(super) struct KeptFailure<E> {
    pub(super) error: E,
    pub(super) age: Duration,
    pub(super) stamp: u64,
}

/// A value that was found, and whether it may be served.
pub(super) struct Probe<V> {
    entry: Arc<Entry<V>>,
    pub(super) verdict: Verdict,
    now: Instant,
}

impl<V> Probe<V> {
    pub(super) fn age(&self) -> Duration {
        self.entry.age(self.now)
    }

    pub(super) fn stamp(&self) -> u64 {
        self.entry.stamp
    }

    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.verdict, Verdict::Fresh | Verdict::Due)
    }

    /// Says whether it may be served without a load.
    pub(super) fn is_servable(&self) -> bool {
        !matches!(self.verdict, Verdict::Fallback | Verdict::Dead)
    }

    pub(super) fn value(&self) -> V
    where
        V: Clone,
    {
        self.entry.value.clone()
    }

    /// Lets no refresh begin for a while, because one has failed.
    pub(super) fn cool_down(&self) {
        self.entry.cool_down(self.now);
    }
}
