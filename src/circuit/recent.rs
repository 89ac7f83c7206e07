//! The calls in the window of a breaker, and whether they open it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::rules::Rules;
use super::state::Reason;

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// With a failure that says something about what is behind the breaker.
    Failure,
    /// It took too long, whatever its result.
    Slow,
}

/// The calls in the window.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The oldest first.
    calls: VecDeque<Call>,
    all: Tally,
    /// The tallies of the principals that have a call in the window.
    principals: HashMap<u64, Tally, RandomState>,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    principal: u64,
    at: Instant,
    failed: Option<Failed>,
}

/// A number of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: usize,
    /// Slow calls too.
    pub(crate) failures: usize,
    pub(crate) slow: usize,
}

impl Tally {
    fn of(failed: Option<Failed>) -> Self {
        Self { calls: 1, failures: failed.is_some().into(), slow: (failed == Some(Failed::Slow)).into() }
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
    }

    fn without(self, other: Self) -> Self {
        Self { calls: self.calls - other.calls, failures: self.failures - other.failures, slow: self.slow - other.slow }
    }

    fn opens(self, rules: &Rules) -> bool {
        self.calls >= rules.min_calls && self.failures as f64 / self.calls as f64 >= rules.failure_rate
    }
}

impl Recent {
    pub(super) fn add(&mut self, principal: u64, failed: Option<Failed>, rules: &Rules, now: Instant) {
        if self.calls.len() >= rules.window.calls {
            self.remove_oldest();
        }
        self.expire(rules, now);
        let tally = Tally::of(failed);
        self.calls.push_back(Call { principal, at: now, failed });
        self.all.add(tally);
        self.principals.entry(principal).or_default().add(tally);
    }

    /// Removes the calls that have left the window of time.
    fn expire(&mut self, rules: &Rules, now: Instant) {
        let Some(window) = rules.window.time else { return };
        while self.calls.front().is_some_and(|call| now.saturating_duration_since(call.at) >= window) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some(Call { principal, failed, .. }) = self.calls.pop_front() else { return };
        let tally = Tally::of(failed);
        self.all = self.all.without(tally);
        if let Some(left) = self.principals.get_mut(&principal) {
            *left = left.without(tally);
            if left.calls == 0 {
                self.principals.remove(&principal);
            }
        }
    }

    /// Counts the calls in the window, and their principals.
    pub(super) fn tally(&mut self, rules: &Rules, now: Instant) -> (Tally, usize) {
        self.expire(rules, now);
        (self.all, self.principals.len())
    }

    /// Returns why the breaker opens, if it does.
    ///
    /// It opens if the calls would open it also without those of any one principal. Where the others have too few calls to decide, one of
    /// them who has succeeded a short time ago keeps it closed.
    pub(super) fn opens(&self, successes: &Successes, rules: &Rules, now: Instant) -> Option<Reason> {
        let is_decided_without = |(principal, own): (&u64, &Tally)| {
            let others = self.all.without(*own);
            match others.calls >= rules.min_calls {
                true => others.opens(rules),
                false => !successes.has_other_than(*principal, rules, now),
            }
        };
        let has_failed = |principal: &(&u64, &Tally)| principal.1.failures > 0;
        let opens = self.all.opens(rules) && self.principals.iter().filter(has_failed).all(is_decided_without);
        let reason = if self.all.slow > self.all.failures / 2 { Reason::SlowCalls } else { Reason::Failures };
        opens.then_some(reason)
    }
}

/// The last success, and the last one of another principal: so there is one for each principal that is not theirs.
#[derive(Debug, Default)]
pub(super) struct Successes {
    last: Option<(u64, Instant)>,
    other: Option<(u64, Instant)>,
}

impl Successes {
    pub(super) fn add(&mut self, principal: u64, now: Instant) {
        if self.last.is_some_and(|(last, _)| last != principal) {
            self.other = self.last;
        }
        self.last = Some((principal, now));
    }

    /// Says whether a principal other than this one has succeeded a short time ago.
    fn has_other_than(&self, principal: u64, rules: &Rules, now: Instant) -> bool {
        let other = self.last.filter(|(last, _)| *last != principal).or(self.other);
        other.is_some_and(|(_, at)| now.saturating_duration_since(at) < rules.window.success_counts())
    }
}
