use crate::telemetry::Count;

/// How a cache is doing, since it was made. That of a [`CachedTool`](crate::cached::CachedTool) counts calls of tools, and what is read of
/// resources and prompts, together.
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
    /// How the second level is doing, where there is one.
    pub second_level: Option<SecondLevelStats>,
}

/// How the second level of a cache is doing, since the cache was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SecondLevelStats {
    /// Values that were found there.
    pub hits: u64,
    /// Values that were not, or were invalidated, unknown or damaged.
    pub misses: u64,
    /// Steps that failed or took too long. Of subscribing, `is_subscribed` tells.
    pub failures: u64,
    /// Steps that were not taken, because too many had failed.
    pub skipped: u64,
    /// Whether steps are not taken at the moment.
    pub is_open: bool,
    /// Values that were put there.
    pub puts: u64,
    /// Values that were not, because too many waited.
    pub dropped_puts: u64,
    /// What is invalidated here, and of which the level does not know yet.
    pub untold_domains: usize,
    /// Invalidations of other replicas that were heard.
    pub invalidations_heard: u64,
    /// Whether invalidations of other replicas are heard.
    pub is_subscribed: bool,
    /// How often a load waited for one of another replica.
    pub lease_waits: u64,
}

/// What is counted.
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
