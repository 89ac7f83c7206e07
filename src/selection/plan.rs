//! What a layer decided for each tool: [`Plan`].

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use turbomcp_types::Tool;

/// What a layer decided for each tool, looked up by name without a lock and without allocating. Clones share it.
///
/// The tools of the first listing, the catalogue that the layer was put on, are known for ever. Of those that came later, the
/// layer remembers the ones it acts on: 10,000 at most, or as many as the last listing has. Beyond that, those are forgotten that
/// were listed longest ago.
pub struct Plan<T>(Arc<Tables<T>>);

struct Tables<T> {
    /// The [bit](bit_of) of each tool that the layer has ever acted on. Most layers act on a few tools, and need not look up the others.
    acted_on: AtomicU64,
    bound: OnceLock<HashMap<Box<str>, Decision<T>, RandomState>>,
    later: Later<T>,
    /// How many listings there were.
    listings: AtomicU64,
}

impl<T> Clone for Plan<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Self(Arc::new(Tables {
            acted_on: AtomicU64::new(0),
            bound: OnceLock::new(),
            later: Later::default(),
            listings: AtomicU64::new(0),
        }))
    }
}

impl<T: Clone + PartialEq> Plan<T> {
    /// Returns what was decided for `tool`, or `None` where the layer does not act.
    #[must_use]
    #[inline]
    pub fn get(&self, tool: &str) -> Option<T> {
        let may_act = self.0.acted_on.load(Ordering::Acquire) & bit_of(tool) != 0;
        if may_act { self.look_up(tool) } else { None }
    }

    fn look_up(&self, tool: &str) -> Option<T> {
        match self.0.bound.get()?.get(tool) {
            Some(decision) => decision.get(),
            None => self.0.later.find(tool, |entry| entry.decision.get())?,
        }
    }

    /// Decides for each of `tools`, as they are now. Tools that are not among them keep what was decided.
    pub fn learn(&self, tools: &[Tool], decide: impl Fn(&Tool) -> Option<T>) {
        let mut decided: Vec<_> = tools.iter().map(|tool| (tool.name.as_str(), decide(tool))).collect();
        let acted_on =
            decided.iter().filter(|(_, decision)| decision.is_some()).fold(0, |bits, (name, _)| bits | bit_of(name));
        // First, so that who looks up a tool does not pass by what is decided next.
        self.0.acted_on.fetch_or(acted_on, Ordering::Release);
        let bound = self
            .0
            .bound
            .get_or_init(|| decided.drain(..).map(|(name, decision)| (name.into(), Decision::new(decision))).collect());
        let listing = self.0.listings.fetch_add(1, Ordering::Relaxed) + 1;
        let mut added = Vec::new();
        for (name, decision) in decided {
            if let Some(known) = bound.get(name) {
                known.set(decision);
            } else if self.0.later.find(name, |entry| entry.update(listing, &decision)).is_none()
                && let Some(decision) = decision
            {
                added.push((name, decision));
            }
        }
        if !added.is_empty() {
            self.0.later.add(added, listing, tools.len());
        }
    }
}

/// One of 64 bits, by what is read of a name in no time: its length and its ends.
#[inline]
fn bit_of(tool: &str) -> u64 {
    let name = tool.as_bytes();
    let end = |byte: Option<&u8>| byte.copied().map_or(0, u32::from);
    let mixed = (name.len() as u32).wrapping_mul(31) ^ end(name.first()).wrapping_mul(7) ^ end(name.last());
    1 << (mixed % u64::BITS)
}

/// What was decided for a tool when it was seen first, and what has been decided since.
struct Decision<T> {
    first: Option<T>,
    has_changed: AtomicBool,
    now: ArcSwapOption<T>,
}

impl<T> Decision<T> {
    fn new(first: Option<T>) -> Self {
        Self { first, has_changed: AtomicBool::new(false), now: ArcSwapOption::empty() }
    }
}

impl<T: Clone + PartialEq> Decision<T> {
    fn get(&self) -> Option<T> {
        if self.has_changed.load(Ordering::Acquire) { self.now.load().as_deref().cloned() } else { self.first.clone() }
    }

    fn set(&self, decision: Option<T>) {
        if self.get() != decision {
            self.now.store(decision.map(Arc::new));
            self.has_changed.store(true, Ordering::Release);
        }
    }
}

/// Tools that came after the first listing, spread over buckets: whoever adds one copies its bucket, whoever looks one up waits
/// for nobody.
struct Later<T> {
    buckets: OnceLock<Box<[Bucket<T>]>>,
    hasher: RandomState,
    /// How many there are. It is locked by whoever adds or forgets.
    count: Mutex<usize>,
}

type Bucket<T> = ArcSwapOption<Vec<Arc<Entry<T>>>>;

struct Entry<T> {
    name: Box<str>,
    hash: u64,
    decision: Decision<T>,
    /// The number of the last listing that it was in.
    listed: AtomicU64,
}

/// How many tools there are at most, unless one listing has more.
const MAX_LATER: usize = 10_000;
/// A power of two.
const BUCKETS: usize = 1024;

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { buckets: OnceLock::new(), hasher: RandomState::default(), count: Mutex::default() }
    }
}

impl<T: Clone + PartialEq> Later<T> {
    fn find<R>(&self, name: &str, then: impl FnOnce(&Entry<T>) -> R) -> Option<R> {
        let buckets = self.buckets.get()?;
        let hash = self.hasher.hash_one(name);
        let bucket = buckets[index(hash)].load();
        bucket.as_ref()?.iter().find(|entry| entry.is(name, hash)).map(|entry| then(entry))
    }

    /// Adds tools of a listing that has so many of them, and forgets others.
    fn add(&self, tools: Vec<(&str, T)>, listing: u64, listed: usize) {
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| Bucket::empty()).collect());
        let mut tools: Vec<_> =
            tools.into_iter().map(|(name, decision)| (self.hasher.hash_one(name), name, decision)).collect();
        // In the order of the listing where a name is in it twice: the last one counts.
        tools.sort_by_key(|(hash, ..)| index(*hash));
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        for tools in tools.chunk_by(|(one, ..), (other, ..)| index(*one) == index(*other)) {
            let bucket = &buckets[index(tools[0].0)];
            let mut entries = bucket.load().as_deref().cloned().unwrap_or_default();
            let before = entries.len();
            for (hash, name, decision) in tools {
                match entries.iter().find(|entry| entry.is(name, *hash)) {
                    Some(entry) => entry.update(listing, &Some(decision.clone())),
                    None => entries.push(Arc::new(Entry::new(name, *hash, decision.clone(), listing))),
                }
            }
            *count += entries.len() - before;
            bucket.store(Some(Arc::new(entries)));
        }
        let most = MAX_LATER.max(listed);
        if *count > most {
            // More than need be, so that this is not done for each tool that comes.
            let kept = (most - most / 8).max(listed);
            *count -= forget(buckets, *count - kept);
        }
    }
}

/// Forgets so many of those that were listed longest ago. Returns how many it forgot: fewer, where some are listed meanwhile.
fn forget<T>(buckets: &[Bucket<T>], mut surplus: usize) -> usize {
    let listings = |bucket: &Bucket<T>| -> Vec<u64> {
        bucket.load().iter().flat_map(|entries| entries.iter()).map(|entry| entry.listed()).collect()
    };
    let mut listed: Vec<_> = buckets.iter().flat_map(listings).collect();
    let (older, last, _) = listed.select_nth_unstable(surplus - 1);
    let last = *last;
    // Of the last listing that is forgotten, some may stay.
    surplus -= older.iter().filter(|listing| **listing < last).count();
    let mut forgotten = 0;
    for bucket in buckets {
        let Some(entries) = bucket.load_full() else { continue };
        let mut kept = Vec::clone(&entries);
        kept.retain(|entry| {
            let listed = entry.listed();
            let is_surplus = listed == last && surplus > 0;
            surplus -= usize::from(is_surplus);
            listed >= last && !is_surplus
        });
        if kept.len() < entries.len() {
            forgotten += entries.len() - kept.len();
            bucket.store((!kept.is_empty()).then(|| Arc::new(kept)));
        }
    }
    forgotten
}

#[expect(clippy::cast_possible_truncation, reason = "the mask takes lower bits than any pointer has")]
fn index(hash: u64) -> usize {
    hash as usize & (BUCKETS - 1)
}

impl<T> Entry<T> {
    fn new(name: &str, hash: u64, decision: T, listing: u64) -> Self {
        Self { name: name.into(), hash, decision: Decision::new(Some(decision)), listed: AtomicU64::new(listing) }
    }

    fn is(&self, name: &str, hash: u64) -> bool {
        self.hash == hash && *self.name == *name
    }

    fn listed(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }
}

impl<T: Clone + PartialEq> Entry<T> {
    fn update(&self, listing: u64, decision: &Option<T>) {
        self.listed.fetch_max(listing, Ordering::Relaxed);
        self.decision.set(decision.clone());
    }
}

impl<T> fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later = *self.0.later.count.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = self.0.bound.get().map_or(0, HashMap::len);
        f.debug_struct("Plan").field("bound", &bound).field("later", &later).finish()
    }
}

#[cfg(test)]
mod tests;
