//! The counters of a cache.

use std::sync::Arc;

use crate::telemetry::Count;

/// The counters of a cache since it was created. Those of a [`CachedTool`](crate::cached::CachedTool) count calls of tools and reads of
/// resources and prompts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls answered at once from the memory of this process.
    pub hits: u64,
    /// Hits whose value was past its ttl.
    pub stale_hits: u64,
    /// Calls answered with a failure that was kept.
    pub negative_hits: u64,
    /// Calls that waited for a load: their own or one under way. A value from the second level counts too.
    pub misses: u64,
    /// Loads begun from the source. Fewer than the misses where callers shared one, or a second level had the value.
    pub loads: u64,
    /// Loads that failed, timed out, were cancelled or ended without a result.
    pub failed_loads: u64,
    /// Loads in the background: of values that were past their ttl, or soon would be.
    pub refreshes: u64,
    /// Entries in the memory of this process. Entries that were invalidated by tool or tag count until they are evicted.
    pub entries: u64,
    /// The weight of all entries. With a bound of bytes, an entry weighs its bytes, and at least `max_bytes / max_entries`; otherwise it
    /// weighs one.
    pub weight: u64,
    /// The counters of the second level, if there is one.
    pub second_level: Option<SecondLevelStats>,
}

/// The counters of the second level of a cache, since the cache was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SecondLevelStats {
    /// Values that were found in it.
    pub hits: u64,
    /// Values that were not found in it, or were invalidated, unknown or damaged.
    pub misses: u64,
    /// Steps that failed or took too long. Subscriptions do not count: see `is_subscribed`.
    pub failures: u64,
    /// Steps that were skipped because the breaker was open.
    pub skipped: u64,
    /// Whether the breaker is open, so that steps are skipped.
    pub is_open: bool,
    /// Values that were put into it.
    pub puts: u64,
    /// Values that were dropped because the queue was full.
    pub dropped_puts: u64,
    /// Invalidation keys that the level has not received yet.
    pub pending_invalidations: usize,
    /// Invalidations that arrived from other replicas.
    pub invalidations_received: u64,
    /// Whether invalidations of other replicas arrive.
    pub is_subscribed: bool,
    /// How often a load waited for one of another replica.
    pub lease_waits: u64,
}

/// The counters of a cache.
#[derive(Debug, Default)]
pub(in crate::cached) struct Counts {
    pub(in crate::cached) hits: Count,
    pub(in crate::cached) stale_hits: Count,
    pub(in crate::cached) negative_hits: Count,
    pub(in crate::cached) misses: Count,
    pub(in crate::cached) loads: Count,
    pub(in crate::cached) failed_loads: Count,
    pub(in crate::cached) refreshes: Count,
}

impl Counts {
    pub(in crate::cached) fn stats(&self, (entries, weight): (u64, u64)) -> Stats {
        Stats {
            hits: self.hits.get(),
            stale_hits: self.stale_hits.get(),
            negative_hits: self.negative_hits.get(),
            misses: self.misses.get(),
            loads: self.loads.get(),
            failed_loads: self.failed_loads.get(),
            refreshes: self.refreshes.get(),
            entries,
            weight,
            second_level: None,
        }
    }
}

/// Counts a load and, unless it has succeeded when this is dropped, a load that failed.
pub(in crate::cached) struct CountedLoad(Option<Arc<Counts>>);

impl CountedLoad {
    pub(in crate::cached) fn new(counts: &Arc<Counts>, is_refresh: bool) -> Self {
        counts.loads.add();
        if is_refresh {
            counts.refreshes.add();
        }
        Self(Some(Arc::clone(counts)))
    }

    pub(in crate::cached) fn has_succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedLoad {
    fn drop(&mut self) {
        if let Some(counts) = &self.0 {
            counts.failed_loads.add();
        }
    }
}
