//! Each caller's own definitions of the tools whose definition differs between callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// How long a caller's listing is valid.
pub(super) const FRESH: Duration = Duration::from_secs(60);
/// The maximum of known callers, and of their definitions, unless one listing has more.
pub(super) const MAX_CALLERS: usize = 10_000;
pub(super) const MAX_DEFINITIONS: usize = 10_000;
/// How many definitions of one name are compared with a new one.
const MAX_VARIANTS: usize = 64;

/// The callers that have listed the tools within the last minute or two.
pub(super) struct Callers<T> {
    records: HashMap<Box<[u8]>, Record<T>, RandomState>,
    /// The number of definitions in all records.
    definitions: usize,
    /// Equal definitions are kept once.
    variants: HashMap<Box<str>, Vec<Option<T>>, RandomState>,
    /// The number of the last listing that revealed a varying definition. The definitions that callers received before
    /// are unknown.
    varied: u64,
}

struct Record<T> {
    /// When the caller has listed the tools, or tried to.
    at: Instant,
    /// The number of the listing. `None` if there was none yet.
    listing: Option<u64>,
    /// The time of its failure, and the id of the log entry.
    failed: Option<(Instant, Arc<str>)>,
    /// The tools whose definition varies.
    varying: HashMap<Box<str>, Option<T>, RandomState>,
}

/// The outcome of a caller's last listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    Listed,
    Failed { id: Arc<str> },
}

impl<T> Default for Callers<T> {
    fn default() -> Self {
        Self { records: HashMap::default(), definitions: 0, variants: HashMap::default(), varied: 0 }
    }
}

impl<T> Callers<T> {
    /// The outcome of the caller's last listing: a failure is remembered for `failure`, a result for `success`.
    pub(super) fn last(&self, key: &[u8], failure: Duration, success: Duration, now: Instant) -> Option<Last> {
        let record = self.records.get(key)?;
        if let Some((failed, id)) = &record.failed
            && now.duration_since(*failed) < failure
        {
            return Some(Last::Failed { id: Arc::clone(id) });
        }
        let is_complete = record.listing.is_some_and(|listing| listing >= self.varied);
        (is_complete && now.duration_since(record.at) < success).then_some(Last::Listed)
    }

    /// Records that the caller's tools could not be listed. The earlier listing stays valid for the rest of its time.
    pub(super) fn note_failure(&mut self, key: &[u8], id: Arc<str>, now: Instant) {
        let failed = Some((now, id));
        match self.records.get_mut(key) {
            Some(record) => record.failed = failed,
            None => {
                let varying = HashMap::default();
                self.replace(key, Record { at: now, listing: None, failed, varying });
                self.shrink(0);
            }
        }
    }

    /// Records that this listing revealed a varying definition.
    pub(super) fn note_variation(&mut self, listing: u64) {
        self.varied = listing;
    }

    pub(super) fn clear(&mut self) {
        *self = Self { varied: self.varied, ..Self::default() };
    }

    /// Each decision of a caller for a tool that callers see differently.
    pub(super) fn each_variant(&self, mut then: impl FnMut(&str, &Option<T>)) {
        let kept = self.records.values().flat_map(|record| &record.varying);
        kept.for_each(|(name, decision)| then(name, decision));
    }

    fn replace(&mut self, key: &[u8], record: Record<T>) {
        self.definitions += record.varying.len();
        if let Some(replaced) = self.records.insert(key.into(), record) {
            self.definitions -= replaced.varying.len();
        }
    }

    /// Forgets the callers who listed longest ago, down to the bounds. `listed` is the number of definitions in the
    /// last listing.
    fn shrink(&mut self, listed: usize) {
        let most = MAX_DEFINITIONS.max(listed);
        if self.records.len() <= MAX_CALLERS && self.definitions <= most {
            return;
        }
        // More than necessary, so that this does not happen for each new caller.
        let (callers, definitions) = (MAX_CALLERS - MAX_CALLERS / 8, (most - most / 8).max(listed));
        let mut ages: Vec<_> = self.records.values().map(|record| (record.at, record.varying.len())).collect();
        ages.sort_unstable();
        let (mut left, mut defined) = (ages.len(), self.definitions);
        let last = ages.into_iter().find(|(_, count)| {
            let is_enough = left <= callers && defined <= definitions;
            left -= 1;
            defined -= count;
            is_enough
        });
        // The last listing stays in any case.
        let newest = self.records.values().map(|record| record.at).max();
        if let Some(oldest_kept) = last.map(|(at, _)| at).or(newest) {
            self.retain(|record| record.at >= oldest_kept);
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Record<T>) -> bool) {
        let definitions = &mut self.definitions;
        self.records.retain(|_, record| {
            let is_kept = keeps(record);
            *definitions -= if is_kept { 0 } else { record.varying.len() };
            is_kept
        });
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        assert_eq!(self.definitions, self.records.values().map(|record| record.varying.len()).sum::<usize>());
        (self.records.len(), self.definitions)
    }
}

impl<T: Clone + PartialEq> Callers<T> {
    /// The decision for the tool by the caller's own definition.
    pub(super) fn own(&self, key: &[u8], tool: &str, now: Instant) -> Option<Option<T>> {
        let record = self.records.get(key).filter(|record| now.duration_since(record.at) < FRESH)?;
        record.varying.get(tool).cloned()
    }

    /// Records the listing of a caller: the decisions for the tools whose definition varies.
    pub(super) fn note(&mut self, key: &[u8], listing: u64, varying: Vec<(&str, Option<T>)>, now: Instant) {
        let listed = varying.len();
        let varying = varying.into_iter().map(|(name, decision)| (name.into(), self.intern(name, decision))).collect();
        self.replace(key, Record { at: now, listing: Some(listing), failed: None, varying });
        self.shrink(listed);
    }

    /// Records a part of the listing of a caller. The earlier listing stays valid for the other tools, for the rest of its time.
    pub(super) fn note_part(&mut self, key: &[u8], varying: Vec<(&str, Option<T>)>, now: Instant) {
        let listed = varying.len();
        let earlier = self.records.get(key).filter(|record| now.duration_since(record.at) < FRESH);
        let (at, listing, mut kept) = match earlier {
            Some(earlier) => (earlier.at, earlier.listing, earlier.varying.clone()),
            None => (now, None, HashMap::default()),
        };
        kept.extend(varying.into_iter().map(|(name, decision)| (name.into(), self.intern(name, decision))));
        self.replace(key, Record { at, listing, failed: None, varying: kept });
        self.shrink(listed);
    }

    /// Finds a decision for a tool that callers see differently.
    pub(super) fn find(&self, tool: &str, is_it: impl Fn(&T) -> bool) -> Option<T> {
        self.variants.get(tool)?.iter().flatten().find(|decision| is_it(decision)).cloned()
    }

    /// Forgets the listings that are no longer valid.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.retain(|record| now.duration_since(record.at) < FRESH);
        self.records.shrink_to_fit();
        self.variants = HashMap::default();
        let kept = self.records.values().flat_map(|record| &record.varying);
        for (name, decision) in kept {
            add_variant(&mut self.variants, name, decision);
        }
    }

    fn intern(&mut self, name: &str, decision: Option<T>) -> Option<T> {
        add_variant(&mut self.variants, name, &decision);
        let known = self.variants.get(name).and_then(|known| known.iter().find(|known| **known == decision));
        known.cloned().unwrap_or(decision)
    }
}

fn add_variant<T: Clone + PartialEq>(
    variants: &mut HashMap<Box<str>, Vec<Option<T>>, RandomState>,
    name: &str,
    decision: &Option<T>,
) {
    let known = match variants.get_mut(name) {
        Some(known) => known,
        None => variants.entry(name.into()).or_default(),
    };
    if known.len() < MAX_VARIANTS && !known.contains(decision) {
        known.push(decision.clone());
    }
}
