use std::sync::atomic::{AtomicU64, Ordering};

/// How a cache is doing, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls answered at once from this process' memory.
    pub hits: u64,
    /// Those of the hits that were past their ttl.
    pub stale_hits: u64,
    /// Calls answered with a failure that was kept.
    pub negative_hits: u64,
    /// Calls that waited for a load, their own or one under way; also one that a second level answered.
    pub misses: u64,
    /// Loads begun from the source. Fewer than the misses where callers shared one, or a second level had the value.
    pub loads: u64,
    /// Loads that failed, were given up or ended without a result.
    pub failed_loads: u64,
    /// Those of the loads that nobody waited for: of values past their ttl, or soon to be.
    pub refreshes: u64,
    /// Entries held. Those invalidated by tool or tag count until their place is needed.
    pub entries: u64,
    /// What the entries weigh against the bound: their bytes, each its share of the bound at least, where bytes are bounded;
    /// one each where not.
    pub weight: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: Count,
    pub(super) stale_hits: Count,
    pub(super) negative_hits: Count,
    pub(super) misses: Count,
    pub(super) loads: Count,
    pub(super) failed_loads: Count,
    pub(super) refreshes: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    pub(super) fn stats(&self, (entries, weight): (u64, u64)) -> Stats {
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
        }
    }
}
