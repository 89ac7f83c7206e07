//! The generations: they let an invalidation win against a load that is under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwapOption;

use super::invalidation_key::{InvalidationKey, Target};

/// When each key was last invalidated, in numbers that only grow.
///
/// An invalidation takes the next number, and a value is stamped with the last number taken before its load began. It is current
/// while nothing that it depends on has a number above its stamp, so also an invalidation that comes during the load counts.
///
/// The numbers of the last keys are known exactly, some thousands for groups, for entries and for tags, each apart. A key whose
/// number is forgotten has that of the last forgotten in its bucket: entries that are older may be lost, never a wrong answer.
pub(in crate::cached) struct Generations {
    /// The last number that was taken.
    last: Arc<AtomicU64>,
    /// When everything was invalidated.
    all: AtomicU64,
    groups: Recent,
    entries: Recent,
    tags: Recent,
}

/// How many buckets there are for groups, and for entries and for tags.
const GROUP_BUCKETS: usize = 256;
const BUCKETS: usize = 2048;
/// How many keys a bucket knows at most.
const PER_BUCKET: usize = 16;

impl Default for Generations {
    fn default() -> Self {
        Self::numbered_by(Arc::default())
    }
}

impl Generations {
    /// Takes its numbers from those of the process, so that the stamps of all its caches can be compared: an outer cache stamps what an
    /// inner one had by the stamp that it has there.
    pub(in crate::cached) fn of_process() -> Self {
        static LAST: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);
        Self::numbered_by(Arc::clone(&LAST))
    }

    fn numbered_by(last: Arc<AtomicU64>) -> Self {
        Self {
            last,
            all: AtomicU64::new(0),
            groups: Recent::new(GROUP_BUCKETS),
            entries: Recent::new(BUCKETS),
            tags: Recent::new(BUCKETS),
        }
    }

    /// The stamp of a load that begins now, or later.
    pub(in crate::cached) fn stamp(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Says whether none of `keys` was invalidated since a load with this stamp began.
    pub(in crate::cached) fn is_current(&self, stamp: u64, keys: &[InvalidationKey]) -> bool {
        self.all.load(Ordering::SeqCst) <= stamp && keys.iter().all(|key| self.of(*key).is_current(stamp, *key))
    }

    /// The keys that an entry depends on.
    pub(in crate::cached) fn watch<'a>(&'a self, keys: &'a [InvalidationKey]) -> Watch<'a> {
        Watch { generations: self, keys }
    }

    /// The number of the last invalidation of any of `keys`, or a larger one.
    pub(in crate::cached) fn latest(&self, keys: &[InvalidationKey]) -> u64 {
        let all = self.all.load(Ordering::SeqCst);
        keys.iter().map(|key| self.of(*key).latest(*key)).fold(all, u64::max)
    }

    /// The number of the last invalidation of any of `keys`, of those whose number is known exactly.
    pub(in crate::cached) fn latest_known(&self, keys: impl Iterator<Item = InvalidationKey>) -> u64 {
        keys.filter_map(|key| self.of(key).known(key)).max().unwrap_or_default()
    }

    /// Returns the number that it takes.
    pub(in crate::cached) fn invalidate(&self, keys: &[InvalidationKey]) -> u64 {
        // Taken before it is noted: a load that begins in between sees all that was done before the invalidation.
        let number = self.next();
        self.note(keys, number);
        number
    }

    /// Notes that `keys` were invalidated with this number.
    pub(in crate::cached) fn note(&self, keys: &[InvalidationKey], number: u64) {
        keys.iter().for_each(|key| self.of(*key).note(*key, number));
    }

    /// Invalidates everything with a number that is larger than this.
    pub(in crate::cached) fn raise(&self, number: u64) {
        self.last.fetch_max(number, Ordering::SeqCst);
        self.invalidate_all();
    }

    pub(in crate::cached) fn invalidate_all(&self) {
        self.all.fetch_max(self.next(), Ordering::SeqCst);
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn of(&self, key: InvalidationKey) -> &Recent {
        match key.target() {
            Target::Group => &self.groups,
            Target::Entry => &self.entries,
            Target::Tag => &self.tags,
        }
    }
}

/// The keys that an entry depends on.
pub(in crate::cached) struct Watch<'a> {
    generations: &'a Generations,
    keys: &'a [InvalidationKey],
}

impl Watch<'_> {
    pub(in crate::cached) fn stamp(&self) -> u64 {
        self.generations.stamp()
    }

    pub(in crate::cached) fn is_current(&self, stamp: u64) -> bool {
        self.generations.is_current(stamp, self.keys)
    }
}

/// The keys of one kind that were invalidated last.
struct Recent(Box<[Bucket]>);

#[derive(Default)]
struct Bucket {
    /// No key in the bucket has a larger number: most entries need not look any further.
    last: AtomicU64,
    known: ArcSwapOption<Known>,
}

impl Recent {
    /// The number of buckets is a power of two.
    fn new(buckets: usize) -> Self {
        Self((0..buckets).map(|_| Bucket::default()).collect())
    }

    fn is_current(&self, stamp: u64, key: InvalidationKey) -> bool {
        let bucket = self.of(key);
        bucket.last.load(Ordering::SeqCst) <= stamp || bucket.latest(key) <= stamp
    }

    fn latest(&self, key: InvalidationKey) -> u64 {
        self.of(key).latest(key)
    }

    fn known(&self, key: InvalidationKey) -> Option<u64> {
        self.of(key).known.load().as_ref()?.of(key)
    }

    fn note(&self, key: InvalidationKey, number: u64) {
        let bucket = self.of(key);
        bucket.known.rcu(|known| Some(Arc::new(known.as_deref().unwrap_or(&NOTHING).with(key, number))));
        // Last, so that who sees it finds the key.
        bucket.last.fetch_max(number, Ordering::SeqCst);
    }

    fn of(&self, key: InvalidationKey) -> &Bucket {
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes lower bits than any pointer has")]
        &self.0[key.number() as usize & (self.0.len() - 1)]
    }
}

impl Bucket {
    fn latest(&self, key: InvalidationKey) -> u64 {
        self.known.load().as_ref().map_or(0, |known| known.latest(key))
    }
}

/// The keys of a bucket, with their numbers.
struct Known {
    /// The number of a key that is not among these is no larger.
    floor: u64,
    /// The smallest number first.
    keys: Vec<(InvalidationKey, u64)>,
}

const NOTHING: Known = Known { floor: 0, keys: Vec::new() };

impl Known {
    fn latest(&self, key: InvalidationKey) -> u64 {
        self.of(key).unwrap_or(self.floor)
    }

    fn of(&self, key: InvalidationKey) -> Option<u64> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, number)| *number)
    }

    /// The same, and this. The number of no key becomes smaller.
    fn with(&self, key: InvalidationKey, number: u64) -> Self {
        let number = number.max(self.latest(key));
        let mut keys = Vec::with_capacity(self.keys.len() + 1);
        keys.extend(self.keys.iter().filter(|(known, _)| *known != key));
        keys.insert(keys.partition_point(|(_, known)| *known < number), (key, number));
        let mut floor = self.floor;
        if keys.len() > PER_BUCKET {
            let (_, forgotten) = keys.remove(0);
            floor = floor.max(forgotten);
        }
        Self { floor, keys }
    }
}

#[cfg(test)]
mod tests;
