//! What is current, and what it takes not to be.

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
    for other in [Target::Group, Target::Entry] {
        assert!(generations.is_current(stamp, &[crowded(other, 0)]), "but not for those of another kind");
    }
    assert!(generations.is_current(young, &[key(0)]), "younger ones are not concerned");
}

/// Numbers may be noted in another order than they were taken.
#[test]
fn a_number_that_is_noted_late_makes_no_other_smaller() {
    let mut known = NOTHING;
    for number in [40, 10, 30, 20, 5] {
        known = known.with(crowded(Target::Tag, 1), number);
        assert_eq!(known.latest(crowded(Target::Tag, 1)), 40);
    }
    for other in 100..100 + PER_BUCKET as u64 {
        known = known.with(crowded(Target::Tag, other), other);
    }
    assert_eq!(known.latest(crowded(Target::Tag, 1)), 40, "it is forgotten, and has the number of what is");
    known = known.with(crowded(Target::Tag, 2), 7);
    assert_eq!(known.latest(crowded(Target::Tag, 2)), 40);
}

#[test]
fn a_hundred_thousand_keys_take_no_more_memory_than_is_stated() {
    let generations = Generations::default();
    for number in 0..100_000_u64 {
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

#[test]
fn what_is_known_exactly_is_what_was_noted_last_and_never_what_was_forgotten() {
    for target in TARGETS {
        let generations = Generations::default();
        let known = |key| generations.latest_known(std::iter::once(key));
        let many = u64::try_from(PER_BUCKET).expect("few") + 4;
        for number in 1..=many {
            generations.note(&[crowded(target, number)], 10 * number);
        }
        for number in 1..=many {
            let is_forgotten = number <= 4;
            assert_eq!(known(crowded(target, number)), if is_forgotten { 0 } else { 10 * number });
            assert!(generations.latest(&[crowded(target, number)]) >= 10 * number);
        }
        generations.note(&[crowded(target, many)], 1);
        assert_eq!(known(crowded(target, many)), 10 * many, "no number becomes smaller");
        let all = (1..=many + 1).map(|number| crowded(target, number));
        assert_eq!(generations.latest_known(all), 10 * many);
    }
}

#[test]
fn what_is_raised_is_larger_than_all_that_was_noted_before() {
    let generations = Generations::default();
    let key = InvalidationKey::new(Target::Tag, 1);
    let before = generations.stamp();
    generations.raise(100);
    assert!(generations.stamp() > 100 && !generations.is_current(before, &[key]));
    assert!(generations.is_current(generations.stamp(), &[key]));
    assert!(generations.invalidate(&[key]) > 101);
}
