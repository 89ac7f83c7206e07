//! The tools that came after the first listing.

use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;

use super::cell::{Cell, Lister};

/// Tools that came after the first listing, spread over buckets: an addition copies its bucket, a look-up never waits.
pub(super) struct Later<T> {
    buckets: OnceLock<Box<[Bucket<T>]>>,
    hasher: RandomState,
}

type Bucket<T> = ArcSwapOption<Vec<Arc<Entry<T>>>>;

struct Entry<T> {
    name: Box<str>,
    hash: u64,
    cell: Cell<T>,
}

/// A tool to be added, with its decision.
pub(super) type Added<'a, T> = (&'a str, Option<T>);

/// The maximum of tools, unless one listing has more.
pub(super) const MAX_LATER: usize = 10_000;
/// A power of two.
const BUCKETS: usize = 1024;

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { buckets: OnceLock::new(), hasher: RandomState::default() }
    }
}

impl<T> Later<T> {
    pub(super) fn find<R>(&self, name: &str, then: impl FnOnce(&Cell<T>) -> R) -> Option<R> {
        let buckets = self.buckets.get()?;
        let hash = self.hasher.hash_one(name);
        let bucket = buckets[index(hash)].load();
        bucket.as_ref()?.iter().find(|entry| entry.is(name, hash)).map(|entry| then(&entry.cell))
    }

    pub(super) fn each(&self, mut then: impl FnMut(&str, &Cell<T>)) {
        for bucket in self.buckets.get().into_iter().flatten() {
            bucket.load().iter().flat_map(|entries| entries.iter()).for_each(|entry| then(&entry.name, &entry.cell));
        }
    }

    /// Forgets the tools whose cell `is_gone`. Returns how many.
    pub(super) fn forget(&self, mut is_gone: impl FnMut(&Cell<T>) -> bool) -> usize {
        let mut forgotten = 0;
        for bucket in self.buckets.get().into_iter().flatten() {
            let Some(entries) = bucket.load_full() else { continue };
            let mut kept = Vec::with_capacity(entries.len());
            kept.extend(entries.iter().filter(|entry| !is_gone(&entry.cell)).cloned());
            if kept.len() < entries.len() {
                forgotten += entries.len() - kept.len();
                bucket.store((!kept.is_empty()).then(|| Arc::new(kept)));
            }
        }
        forgotten
    }

    /// Forgets this many of the tools that were listed longest ago. Returns how many it forgot.
    pub(super) fn forget_oldest(&self, mut surplus: usize) -> usize {
        let listed = |bucket: &Bucket<T>| -> Vec<u64> {
            bucket.load().iter().flat_map(|entries| entries.iter()).map(|entry| entry.cell.listed()).collect()
        };
        let mut listed: Vec<_> = self.buckets.get().into_iter().flatten().flat_map(listed).collect();
        let (older, last, _) = listed.select_nth_unstable(surplus - 1);
        let last = *last;
        // Some tools of the last forgotten listing may stay.
        surplus -= older.iter().filter(|listing| **listing < last).count();
        self.forget(|cell| {
            let is_surplus = cell.listed() == last && surplus > 0;
            surplus -= usize::from(is_surplus);
            cell.listed() < last || is_surplus
        })
    }

    #[cfg(test)]
    pub(super) fn buckets(&self) -> Vec<Option<*const ()>> {
        let address = |bucket: &Bucket<T>| bucket.load_full().map(|entries| Arc::as_ptr(&entries).cast());
        self.buckets.get().into_iter().flatten().map(address).collect()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.buckets.get().into_iter().flatten().filter_map(|bucket| Some(bucket.load().as_ref()?.len())).sum()
    }
}

impl<T: Clone + PartialEq> Later<T> {
    /// Adds the tools of a listing. Returns how many are new.
    pub(super) fn add(
        &self,
        tools: Vec<Added<'_, T>>,
        listing: u64,
        lister: Lister,
        is_named: impl Fn(&str) -> bool,
    ) -> usize {
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| Bucket::empty()).collect());
        let mut tools: Vec<_> =
            tools.into_iter().map(|(name, decision)| (self.hasher.hash_one(name), name, decision)).collect();
        // In the order of the listing where a name is in it twice: the last one counts.
        tools.sort_by_key(|(hash, ..)| index(*hash));
        let mut added = 0;
        for tools in tools.chunk_by(|(one, ..), (other, ..)| index(*one) == index(*other)) {
            let bucket = &buckets[index(tools[0].0)];
            let mut entries = bucket.load().as_deref().cloned().unwrap_or_default();
            let before = entries.len();
            for (hash, name, decision) in tools {
                match entries.iter().find(|entry| entry.is(name, *hash)) {
                    Some(entry) => {
                        entry.cell.update(listing, decision, lister);
                    }
                    None => entries.push(Arc::new(Entry {
                        name: (*name).into(),
                        hash: *hash,
                        cell: Cell::new(decision.clone(), lister, listing, is_named(name)),
                    })),
                }
            }
            added += entries.len() - before;
            bucket.store(Some(Arc::new(entries)));
        }
        added
    }
}

impl<T> Entry<T> {
    fn is(&self, name: &str, hash: u64) -> bool {
        self.hash == hash && *self.name == *name
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the mask takes lower bits than any pointer has")]
fn index(hash: u64) -> usize {
    hash as usize & (BUCKETS - 1)
}
