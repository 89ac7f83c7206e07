//! What makes an invalidation stronger than a load that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::invalidation_key::{InvalidationKey, Target};

/// When each key was last invalidated, in numbers that only grow.
///
/// An invalidation takes the next number, and a value is stamped with the last number taken before its load began. It is current
/// while nothing that it depends on has a number above its stamp, so also an invalidation that comes during the load counts.
///
/// The numbers of the last keys are known exactly, some thousands for groups, for entries and for tags, each apart. A key whose
/// number is forgotten has that of the last forgotten in its bucket: entries that are older may be lost, never a wrong answer.
pub(super) struct Generations {
    /// The last number that was taken.
    last: AtomicU64,
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
        Self {
            last: AtomicU64::new(0),
            all: AtomicU64::new(0),
            groups: Recent::new(GROUP_BUCKETS),
            entries: Recent::new(BUCKETS),
            tags: Recent::new(BUCKETS),
        }
    }
}

impl Generations {
    /// The stamp of a load that begins now, or later.
    pub(super) fn stamp(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Says whether none of `keys` was invalidated since a load with this stamp began.
    pub(super) fn is_current(&self, stamp: u64, keys: &[InvalidationKey]) -> bool {
        self.all.load(Ordering::SeqCst) <= stamp && keys.iter().all(|key| self.of(*key).is_current(stamp, *key))
    }

    /// What an entry with these keys depends on.
    pub(super) fn watch<'a>(&'a self, keys: &'a [InvalidationKey]) -> Watch<'a> {
        Watch { generations: self, keys }
    }

    /// The number of the last invalidation of any of `keys`, or a larger one.
    pub(super) fn latest(&self, keys: &[InvalidationKey]) -> u64 {
        let all = self.all.load(Ordering::SeqCst);
        keys.iter().map(|key| self.of(*key).latest(*key)).fold(all, u64::max)
    }

    pub(super) fn invalidate(&self, keys: &[InvalidationKey]) {
        // Taken before it is noted: a load that begins in between sees all that was done before the invalidation.
        let number = self.next();
        keys.iter().for_each(|key| self.of(*key).note(*key, number));
    }

    pub(super) fn invalidate_all(&self) {
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

/// What an entry depends on.
pub(super) struct Watch<'a> {
    generations: &'a Generations,
    keys: &'a [InvalidationKey],
}

impl Watch<'_> {
    pub(super) fn stamp(&self) -> u64 {
        self.generations.stamp()
    }

    pub(super) fn is_current(&self, stamp: u64) -> bool {
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

    fn note(&self, key: InvalidationKey, number: u64) {
        let bucket = self.of(key);
        bucket.known.rcu(|known| {
            let mut known = known.as_deref().cloned().unwrap_or_default();
            known.note(key, number);
            Some(Arc::new(known))
        });
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

/// What a bucket knows.
#[derive(Clone, Default)]
struct Known {
    /// The number of a key that is not among these is no larger.
    floor: u64,
    /// The smallest number first.
    keys: Vec<(InvalidationKey, u64)>,
}

impl Known {
    fn latest(&self, key: InvalidationKey) -> u64 {
        self.keys.iter().find(|(known, _)| *known == key).map_or(self.floor, |(_, number)| *number)
    }

    /// The number of no key becomes smaller.
    fn note(&mut self, key: InvalidationKey, number: u64) {
        let number = number.max(self.latest(key));
        self.keys.retain(|(known, _)| *known != key);
        let at = self.keys.partition_point(|(_, known)| *known < number);
        self.keys.insert(at, (key, number));
        if self.keys.len() > PER_BUCKET {
            let (_, forgotten) = self.keys.remove(0);
            self.floor = self.floor.max(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const TARGETS: [Target; 3] = [Target::Group, Target::Entry, Target::Tag];

    /// A key that is in the same bucket as all others of its kind.
    fn crowded(target: Target, number: u64) -> InvalidationKey {
        InvalidationKey::new(target, number << 32)
    }

    #[test]
    fn what_is_invalidated_after_a_stamp_is_not_current_and_everything_else_is() {
        for target in TARGETS {
            let generations = Generations::default();
            let key = |number| InvalidationKey::new(target, number);
            let before = generations.stamp();
            generations.invalidate(&[key(1), key(2)]);
            let after = generations.stamp();
            for invalidated in [vec![key(1)], vec![key(2)], vec![key(3), key(1)]] {
                assert!(!generations.is_current(before, &invalidated) && generations.is_current(after, &invalidated));
            }
            assert!(generations.is_current(before, &[key(3)]));
            let others = TARGETS.into_iter().filter(|other| *other != target);
            assert!(others.into_iter().all(|other| generations.is_current(before, &[InvalidationKey::new(other, 1)])));
            generations.invalidate_all();
            assert!(!generations.is_current(after, &[key(3)]) && !generations.is_current(after, &[]));
            assert!(generations.is_current(generations.stamp(), &[key(3)]));
        }
    }

    /// The keys that share a bucket: of each, the number that it has is never below the one that it was invalidated with last.
    #[test]
    fn no_invalidation_is_lost_however_many_share_a_bucket() {
        let mut chance = fastrand::Rng::with_seed(11);
        for target in TARGETS {
            let generations = Generations::default();
            let mut invalidated = HashMap::new();
            let mut known = HashMap::new();
            for _ in 0..5_000 {
                let key = chance.u64(0..60);
                generations.invalidate(&[crowded(target, key)]);
                invalidated.insert(key, generations.stamp());
                for key in 0..60 {
                    let latest = generations.latest(&[crowded(target, key)]);
                    assert!(latest >= invalidated.get(&key).copied().unwrap_or_default());
                    assert!(latest >= known.insert(key, latest).unwrap_or_default(), "it became smaller");
                }
            }
        }
    }

    #[test]
    fn a_value_is_lost_to_others_only_after_as_many_of_them_as_a_bucket_knows() {
        let generations = Generations::default();
        let key = |number| crowded(Target::Tag, number);
        let stamp = generations.stamp();
        let most = PER_BUCKET as u64;
        for other in 1..=most {
            generations.invalidate(&[key(other)]);
            generations.invalidate(&[key(1)]);
            assert!(generations.is_current(stamp, &[key(0)]), "after {other}");
        }
        let young = generations.stamp();
        generations.invalidate(&[key(most + 1)]);
        assert!(!generations.is_current(stamp, &[key(0)]), "what is forgotten counts for all");
        assert!(generations.is_current(young, &[key(0)]), "younger ones are not concerned");
    }

    /// Numbers may be noted in another order than they were taken.
    #[test]
    fn a_number_that_is_noted_late_makes_no_other_smaller() {
        let mut known = Known::default();
        for number in [40, 10, 30, 20, 5] {
            known.note(crowded(Target::Tag, 1), number);
            assert_eq!(known.latest(crowded(Target::Tag, 1)), 40);
        }
        for other in 100..100 + PER_BUCKET as u64 {
            known.note(crowded(Target::Tag, other), other);
        }
        assert_eq!(known.latest(crowded(Target::Tag, 1)), 40, "it is forgotten, and has the number of what is");
        known.note(crowded(Target::Tag, 2), 7);
        assert_eq!(known.latest(crowded(Target::Tag, 2)), 40);
    }

    #[test]
    fn a_million_keys_take_no_more_memory_than_is_stated() {
        let generations = Generations::default();
        for number in 0..1_000_000_u64 {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            generations.invalidate(&TARGETS.map(|target| InvalidationKey::new(target, hash)));
        }
        let known = |recent: &Recent| -> usize {
            recent.0.iter().filter_map(|bucket| Some(bucket.known.load().as_ref()?.keys.len())).sum()
        };
        assert_eq!(known(&generations.groups), 4_096);
        assert_eq!(known(&generations.entries), 32_768);
        assert_eq!(known(&generations.tags), 32_768);
    }

    #[test]
    fn on_many_threads_who_has_invalidated_finds_nothing_older_current() {
        let generations = Generations::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let generations = &generations;
                scope.spawn(move || {
                    let mut chance = fastrand::Rng::with_seed(thread);
                    for _ in 0..5_000 {
                        let key = crowded(TARGETS[chance.usize(0..3)], chance.u64(0..40));
                        let before = generations.stamp();
                        generations.invalidate(&[key]);
                        assert!(!generations.is_current(before, &[key]));
                    }
                });
            }
        });
    }
}
