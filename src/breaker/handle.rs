//! The handle of the layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::breakers::{Breaker, Breakers};
use super::plan::ToolPlan;
use crate::circuit::{Change, Circuit, Reason, State};
use crate::selection::Plan;
use crate::telemetry::Count;

/// A handle to the breakers and counters of a [`BreakerTool`](super::BreakerTool). Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Handled>);

/// What a handle shows.
#[derive(Default)]
pub(super) struct Handled {
    pub(super) admitted: Count,
    pub(super) refused: Count,
    pub(super) failed: Count,
    pub(super) slow: Count,
    /// The plan and the breakers on the server that the layer was put on last.
    pub(super) bound: ArcSwapOption<(Plan<Arc<ToolPlan>>, Breakers)>,
}

/// What a [`BreakerTool`](super::BreakerTool) has done since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were let through.
    pub admitted: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls whose failure counted.
    pub failed: u64,
    /// Calls that took too long.
    pub slow: u64,
}

/// A breaker as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The name of its tool or group.
    pub name: String,
    /// What it does with calls.
    pub state: State,
    /// The calls in its window, while it is closed.
    pub calls: usize,
    /// Those that failed or were slow.
    pub failures: usize,
    /// The principals who made them.
    pub principals: usize,
    /// The last ten changes of its state, the latest one last.
    pub transitions: Vec<Transition>,
}

/// A change of the state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why it changed.
    pub reason: Reason,
    /// How long ago that was.
    pub age: Duration,
}

impl Handle {
    /// Returns the names of the tools that the layer acts on, for at least one caller. Empty as long as the layer is on no server.
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        self.0.bound.load().as_ref().map(|bound| bound.0.tools()).unwrap_or_default()
    }

    /// Returns all breakers, by name. Empty as long as the layer is on no server.
    #[must_use]
    pub fn breakers(&self) -> Vec<Status> {
        let bound = self.0.bound.load();
        bound.iter().flat_map(|bound| bound.1.all()).map(|breaker| Status::of(&breaker)).collect()
    }

    /// Returns the breaker of a tool or a group.
    #[must_use]
    pub fn breaker(&self, name: &str) -> Option<Status> {
        self.get(name).map(|breaker| Status::of(&breaker))
    }

    /// Refuses all calls of a tool or a group until [`release`](Self::release). Returns false if no breaker has this name.
    #[must_use = "there may be no such breaker"]
    pub fn force_open(&self, name: &str) -> bool {
        self.set(name, Circuit::force_open)
    }

    /// Lets all calls of a tool or a group through until [`release`](Self::release), whatever their results. Returns false if no breaker
    /// has this name.
    #[must_use = "there may be no such breaker"]
    pub fn force_closed(&self, name: &str) -> bool {
        self.set(name, Circuit::force_closed)
    }

    /// Ends the forced state of a breaker: it is closed, and its window is empty. Does nothing to a breaker that is not forced. Returns
    /// false if no breaker has this name.
    #[must_use = "there may be no such breaker"]
    pub fn release(&self, name: &str) -> bool {
        self.set(name, Circuit::release)
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            admitted: self.0.admitted.get(),
            refused: self.0.refused.get(),
            failed: self.0.failed.get(),
            slow: self.0.slow.get(),
        }
    }

    fn get(&self, name: &str) -> Option<Arc<Breaker>> {
        self.0.bound.load().as_ref()?.1.get(name)
    }

    fn set(&self, name: &str, to: impl FnOnce(&Circuit) -> Option<Change>) -> bool {
        let Some(breaker) = self.get(name) else { return false };
        if let Some(change) = to(&breaker.circuit) {
            breaker.report(change);
        }
        true
    }
}

impl Status {
    fn of(breaker: &Breaker) -> Self {
        let (snapshot, now) = (breaker.circuit.snapshot(), Instant::now());
        let transition = |change: Change| {
            let Change { from, to, reason, at } = change;
            Transition { from, to, reason, age: now.saturating_duration_since(at) }
        };
        Self {
            name: breaker.name.clone(),
            state: snapshot.state,
            calls: snapshot.tally.calls,
            failures: snapshot.tally.failures,
            principals: snapshot.principals,
            transitions: snapshot.changes.into_iter().map(transition).collect(),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.stats()).finish()
    }
}
