//! The breaker: which calls it lets through, and what their results change.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::recent::{Failed, Recent, Successes, Tally};
use super::rules::Rules;
use super::state::{Change, Reason, State};
use crate::clock::later;

/// A circuit breaker.
#[derive(Debug)]
pub(crate) struct Circuit {
    rules: Rules,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// The number of the phase. A result that belongs to an earlier one changes nothing.
    number: u64,
    successes: Successes,
    /// The last changes, the oldest first.
    changes: VecDeque<Change>,
}

#[derive(Debug)]
enum Phase {
    Closed(Recent),
    Open { until: Instant },
    HalfOpen(Probes),
    ForcedOpen,
    ForcedClosed,
}

/// The probes of a breaker that is half open.
#[derive(Debug)]
struct Probes {
    /// A probe without a result after the pause no longer keeps others from being let through: they are a new round.
    round: u64,
    /// The end of the round, which begins when one of its probes runs.
    until: Instant,
    /// Those of this round.
    running: usize,
    succeeded: usize,
}

/// How many changes are kept.
const CHANGES: usize = 10;

/// A call that is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) state: State,
    /// The time after which a call is let through at the latest, unless others come first. A forced breaker does not know it.
    pub(crate) retry_after: Option<Duration>,
}

/// The permit for one call. Dropped without a result, it gives its place to the next probe.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives its place back"]
pub(crate) struct Permit<'a> {
    circuit: &'a Circuit,
    principal: u64,
    phase: u64,
    /// The round, if this is a probe.
    round: Option<u64>,
    has_ended: bool,
}

/// What is known of a breaker.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) tally: Tally,
    /// How many have a call in the window.
    pub(crate) principals: usize,
    pub(crate) changes: Vec<Change>,
}

impl Circuit {
    pub(crate) fn new(rules: Rules) -> Self {
        let phase = Phase::Closed(Recent::default());
        let inner = Inner { phase, number: 0, successes: Successes::default(), changes: VecDeque::new() };
        Self { rules, inner: Mutex::new(inner) }
    }

    /// Lets a call through, or not. The change is that of an open breaker whose pause is over.
    pub(crate) fn admit(&self, principal: u64) -> Result<(Permit<'_>, Option<Change>), Refused> {
        let mut inner = self.lock();
        let now = Instant::now();
        let change = match inner.phase {
            Phase::Open { until } if until <= now => {
                let probes = Probes { round: 0, until: now, running: 0, succeeded: 0 };
                Some(inner.change(Phase::HalfOpen(probes), Reason::PauseOver, now))
            }
            _ => None,
        };
        let round = match &mut inner.phase {
            Phase::Closed(_) | Phase::ForcedClosed => None,
            Phase::Open { until } => return Err(Refused::until(State::Open, *until, now)),
            Phase::ForcedOpen => return Err(Refused { state: State::ForcedOpen, retry_after: None }),
            Phase::HalfOpen(probes) => Some(probes.begin(&self.rules, now)?),
        };
        let permit = Permit { circuit: self, principal, phase: inner.number, round, has_ended: false };
        Ok((permit, change))
    }

    pub(crate) fn state(&self) -> State {
        self.lock().phase.state(Instant::now())
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut inner = self.lock();
        let (tally, principals) = match &mut inner.phase {
            Phase::Closed(recent) => recent.tally(&self.rules, now),
            _ => (Tally::default(), 0),
        };
        Snapshot { state: inner.phase.state(now), tally, principals, changes: inner.changes.iter().copied().collect() }
    }

    /// Refuses all calls until the breaker is released. Returns `None` if that is so already.
    pub(crate) fn force_open(&self) -> Option<Change> {
        self.force(Phase::ForcedOpen)
    }

    /// Lets all calls through until the breaker is released. Returns `None` if that is so already.
    pub(crate) fn force_closed(&self) -> Option<Change> {
        self.force(Phase::ForcedClosed)
    }

    /// Ends a forced state: the breaker is closed, and has seen no calls. Returns `None` if its state is not forced.
    pub(crate) fn release(&self) -> Option<Change> {
        let mut inner = self.lock();
        matches!(inner.phase, Phase::ForcedOpen | Phase::ForcedClosed)
            .then(|| inner.change(Phase::Closed(Recent::default()), Reason::Released, Instant::now()))
    }

    fn force(&self, phase: Phase) -> Option<Change> {
        let (mut inner, now) = (self.lock(), Instant::now());
        (inner.phase.state(now) != phase.state(now)).then(|| inner.change(phase, Reason::Forced, now))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    /// The state to show: an open breaker whose pause is over would let a call through.
    fn state(&self, now: Instant) -> State {
        match self {
            Self::Closed(_) => State::Closed,
            Self::Open { until } if now < *until => State::Open,
            Self::Open { .. } | Self::HalfOpen(_) => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
        }
    }
}

impl Inner {
    fn change(&mut self, to: Phase, reason: Reason, now: Instant) -> Change {
        // Not what is shown: the end of a pause is a change.
        let from = if let Phase::Open { .. } = self.phase { State::Open } else { self.phase.state(now) };
        let change = Change { from, to: to.state(now), reason, at: now };
        self.phase = to;
        self.number += 1;
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        change
    }

    fn end(&mut self, permit: &Permit<'_>, result: Result<(), Failed>) -> Option<Change> {
        if permit.phase != self.number {
            return None;
        }
        let (rules, now) = (&permit.circuit.rules, Instant::now());
        if result.is_ok() {
            self.successes.add(permit.principal, now);
        }
        let open = || Phase::Open { until: later(now, rules.pause) };
        let (phase, reason) = match &mut self.phase {
            Phase::Closed(recent) => {
                recent.add(permit.principal, result.err(), rules, now);
                // A success opens nothing.
                result.err()?;
                (open(), recent.opens(&self.successes, rules, now)?)
            }
            Phase::HalfOpen(_) if result.is_err() => (open(), Reason::ProbeFailed),
            Phase::HalfOpen(probes) => {
                probes.end(permit.round);
                probes.succeeded += 1;
                if probes.succeeded < rules.probes {
                    return None;
                }
                (Phase::Closed(Recent::default()), Reason::ProbesSucceeded)
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed => return None,
        };
        Some(self.change(phase, reason, now))
    }
}

impl Probes {
    /// Returns the round of the probe that begins.
    fn begin(&mut self, rules: &Rules, now: Instant) -> Result<u64, Refused> {
        if self.running + self.succeeded >= rules.probes {
            if now < self.until {
                return Err(Refused::until(State::HalfOpen, self.until, now));
            }
            (self.round, self.running) = (self.round + 1, 0);
        }
        if self.running == 0 {
            self.until = later(now, rules.pause);
        }
        self.running += 1;
        Ok(self.round)
    }

    fn end(&mut self, round: Option<u64>) {
        if round == Some(self.round) {
            self.running -= 1;
        }
    }
}

impl Refused {
    fn until(state: State, until: Instant, now: Instant) -> Self {
        Self { state, retry_after: Some(until.saturating_duration_since(now)) }
    }
}

impl Permit<'_> {
    pub(crate) fn is_probe(&self) -> bool {
        self.round.is_some()
    }

    /// Returns the change that this makes.
    pub(crate) fn succeeded(self) -> Option<Change> {
        self.end(Ok(()))
    }

    /// Returns the change that this makes.
    pub(crate) fn failed(self, how: Failed) -> Option<Change> {
        self.end(Err(how))
    }

    fn end(mut self, result: Result<(), Failed>) -> Option<Change> {
        self.has_ended = true;
        self.circuit.lock().end(&self, result)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.has_ended || self.round.is_none() {
            return;
        }
        let mut inner = self.circuit.lock();
        if let (number, Phase::HalfOpen(probes)) = (inner.number, &mut inner.phase)
            && number == self.phase
        {
            probes.end(self.round);
        }
    }
}
