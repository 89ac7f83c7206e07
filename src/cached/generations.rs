//! What makes an invalidation stronger than a load that is under way.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow, one for each domain of entries (a key, a tool, a tag) and one for all.
///
/// A value is stamped with the sum of its domains' counters from before its load began. Whoever finds another sum than its
/// stamp knows that something was invalidated since, also while the value was still being loaded. Domains are spread over a
/// fixed number of counters: two that meet in one cost each other a load, never a wrong answer.
pub(super) struct Generations {
    all: AtomicU64,
    domains: Box<[AtomicU64]>,
}

/// How many counters there are for a cache of one process.
pub(super) const ALONE: u32 = 4096;
/// How many there are for caches that share a second level, where all replicas' invalidations meet. It is a part of what they
/// tell each other, so it stays as it is.
pub(super) const SHARED: u32 = 65_536;

impl Generations {
    pub(super) fn new(counters: u32) -> Self {
        Self { all: AtomicU64::new(0), domains: (0..counters).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn stamp(&self, domains: &[u64]) -> u64 {
        domains.iter().fold(self.all.load(Ordering::SeqCst), |sum, domain| {
            sum.wrapping_add(self.of(*domain).load(Ordering::SeqCst))
        })
    }

    pub(super) fn advance(&self, domain: u64) {
        self.of(domain).fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    fn of(&self, domain: u64) -> &AtomicU64 {
        // The remainder is smaller than the number of counters, so it is an index whatever the width of a pointer.
        #[expect(clippy::cast_possible_truncation, reason = "smaller than the length")]
        &self.domains[(domain % self.domains.len() as u64) as usize]
    }
}
