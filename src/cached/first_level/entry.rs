//! One entry with its lifetime, and the store of all entries: moka, bounded in entries and bytes, with a clock that tests can pause.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::freshness::{COOLDOWN, Freshness, Verdict};

/// A value, and the times that decide whether it may still be served.
pub(in crate::cached) struct Entry<V> {
    pub(in crate::cached) value: V,
    stored: Instant,
    pub(in crate::cached) stamp: u64,
    lifetime: Lifetime,
    /// When it was last asked for, in milliseconds since it was stored.
    read: AtomicU64,
    /// Until when no refresh begins, in milliseconds since it was stored.
    cooldown: AtomicU64,
    weight: u32,
}

/// The rules by which entries are served.
#[derive(Clone, Copy)]
pub(in crate::cached) struct Policy<'a> {
    pub(in crate::cached) freshness: &'a Freshness,
    pub(in crate::cached) idle_time: Option<Duration>,
    /// How long this process serves an entry without asking the second level.
    pub(in crate::cached) trust: Duration,
}

/// The times of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cached) struct Lifetime {
    /// How old it was when it was stored here.
    pub(in crate::cached) age: Duration,
    /// The age up to which it is fresh.
    pub(in crate::cached) fresh: Duration,
    /// The age up to which it is of any use.
    pub(in crate::cached) end: Duration,
    /// How long it took to load.
    pub(in crate::cached) cost: Duration,
}

impl<V> Entry<V> {
    pub(in crate::cached) fn new(value: V, stamp: u64, lifetime: Lifetime, weight: u32) -> Self {
        Self {
            value,
            stored: Instant::now(),
            stamp,
            lifetime,
            read: AtomicU64::new(0),
            cooldown: AtomicU64::new(0),
            weight,
        }
    }

    pub(in crate::cached) fn age(&self, now: Instant) -> Duration {
        self.lifetime.age + now.saturating_duration_since(self.stored)
    }

    pub(in crate::cached) fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Decides whether the value may be served. It is dead if it is not current (one of its invalidation keys was invalidated since
    /// its load began), if no caller read it during the idle time, or if this process has kept it for longer than the policy trusts it.
    pub(in crate::cached) fn judge(&self, is_current: bool, now: Instant, policy: &Policy<'_>) -> Verdict {
        let Policy { freshness, idle_time, trust } = *policy;
        let kept = now.saturating_duration_since(self.stored);
        if !is_current || kept >= trust || !idle_time.is_none_or(|idle_time| self.is_in_use(kept, idle_time)) {
            return Verdict::Dead;
        }
        let is_cooling_down = millis(kept) < self.cooldown.load(Ordering::Relaxed);
        freshness.judge(self.lifetime.age + kept, self.lifetime.fresh, self.lifetime.cost, is_cooling_down)
    }

    /// Says whether it is fresh, if it is current, and was kept here for less than `trust`.
    pub(in crate::cached) fn is_fresh(&self, now: Instant, trust: Duration) -> bool {
        self.age(now) < self.lifetime.fresh && now.saturating_duration_since(self.stored) < trust
    }

    /// Lets no refresh begin for a while, because one has failed.
    pub(in crate::cached) fn cool_down(&self, now: Instant) {
        let until = now.saturating_duration_since(self.stored) + COOLDOWN;
        self.cooldown.fetch_max(millis(until), Ordering::Relaxed);
    }

    /// Says whether the value was asked for lately, and if so notes that it is asked for again.
    fn is_in_use(&self, age: Duration, idle_time: Duration) -> bool {
        let now = millis(age);
        let idle = Duration::from_millis(now.saturating_sub(self.read.load(Ordering::Relaxed)));
        let is_in_use = idle < idle_time;
        if is_in_use {
            self.read.fetch_max(now, Ordering::Relaxed);
        }
        is_in_use
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How much may be kept.
pub(in crate::cached) struct Bounds<K, V> {
    pub(in crate::cached) max_entries: usize,
    pub(in crate::cached) bytes: Option<(usize, SizeOf<K, V>)>,
}

pub(in crate::cached) type SizeOf<K, V> = Arc<dyn Fn(&K, &V) -> usize + Send + Sync>;

impl<K, V> Bounds<K, V> {
    pub(in crate::cached) fn measure(&self, key: &K, value: &V) -> usize {
        self.bytes.as_ref().map_or(0, |(_, size_of)| size_of(key, value))
    }

    /// An entry weighs its bytes, but at least its share of the bound: so entries and bytes are both bounded by the weight.
    pub(in crate::cached) fn weigh(&self, bytes: usize) -> u32 {
        match &self.bytes {
            None => 1,
            Some((max_bytes, _)) => {
                let share = max_bytes.div_ceil(self.max_entries.max(1));
                u32::try_from((bytes.max(share).max(1) as u64).div_ceil(self.unit())).unwrap_or(u32::MAX)
            }
        }
    }

    fn max_weight(&self) -> u64 {
        self.bytes.as_ref().map_or(self.max_entries as u64, |(max_bytes, _)| *max_bytes as u64 / self.unit())
    }

    /// How many bytes weigh 1: more than one where a `u32` could not hold the weight of everything.
    fn unit(&self) -> u64 {
        self.bytes.as_ref().map_or(1, |(max_bytes, _)| (*max_bytes as u64 >> 31).max(1))
    }
}

impl<K, V> Clone for Bounds<K, V> {
    fn clone(&self) -> Self {
        Self { max_entries: self.max_entries, bytes: self.bytes.clone() }
    }
}

pub(in crate::cached) struct Store<K, V>(moka::sync::Cache<K, Arc<Entry<V>>>);

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(in crate::cached) fn new(bounds: &Bounds<K, V>) -> Self {
        let store = moka::sync::Cache::builder()
            .max_capacity(bounds.max_weight())
            .weigher(|_: &K, entry: &Arc<Entry<V>>| entry.weight)
            .expire_after(ByTtl)
            .build();
        Self(store)
    }

    pub(in crate::cached) fn get(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.0.get(key)
    }

    pub(in crate::cached) fn put(&self, key: K, entry: Arc<Entry<V>>) {
        self.0.insert(key, entry);
    }

    pub(in crate::cached) fn remove(&self, key: &K) {
        self.0.invalidate(key);
    }

    pub(in crate::cached) fn clear(&self) {
        self.0.invalidate_all();
    }

    /// How many entries there are, and what they weigh.
    pub(in crate::cached) fn size(&self, bounds: &Bounds<K, V>) -> (u64, u64) {
        self.0.run_pending_tasks();
        (self.0.entry_count(), self.0.weighted_size() * bounds.unit())
    }
}

/// Lets moka free what has expired. Whether a value may be served is decided by [`Entry::judge`], whose clock can be paused.
struct ByTtl;

impl<K, V> moka::Expiry<K, Arc<Entry<V>>> for ByTtl {
    fn expire_after_create(&self, _: &K, entry: &Arc<Entry<V>>, _: std::time::Instant) -> Option<Duration> {
        Some(entry.lifetime.end.saturating_sub(entry.lifetime.age))
    }

    fn expire_after_update(
        &self,
        _: &K,
        entry: &Arc<Entry<V>>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime.end.saturating_sub(entry.lifetime.age))
    }
}
