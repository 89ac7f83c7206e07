//! A limit that moves by how the calls end: additive increase, multiplicative decrease.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

use crate::outcome::{self, ErrorKind};

/// The lowest and the highest limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) max: usize,
}

/// What the end of a call says about the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    Overloaded,
    /// It failed for a reason of its own, a layer further in refused it, or it waited for its client.
    SaysNothing,
}

impl Ended {
    /// The client may be the one that took long, or did not answer.
    pub(super) fn of(result: &McpResult<ToolResult>, needed_client: bool) -> Self {
        let is_of_client = |kind| needed_client && matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Transport));
        match outcome::failure(result) {
            None if needed_client => Self::SaysNothing,
            None => Self::Well,
            Some(failure) if failure.is_temporary() && !failure.is_turned_away() && !is_of_client(failure.kind()) => {
                Self::Overloaded
            }
            Some(_) => Self::SaysNothing,
        }
    }

    /// The end of a call that has reached its timeout.
    pub(super) fn timed_out(needed_client: bool) -> Self {
        if needed_client { Self::SaysNothing } else { Self::Overloaded }
    }
}

#[derive(Debug)]
pub(super) struct Adaptive {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Running calls beyond the limit. Their places are not given back.
    beyond: usize,
    /// Calls that ended well since the limit moved.
    well: usize,
    /// The most calls that ran at the same time since the limit moved.
    peak: usize,
    /// How often the limit was lowered. An overload of a call that began before the last time is known already.
    lowered: u64,
}

impl Adaptive {
    pub(super) fn new(bounds: Bounds, limit: usize) -> Self {
        Self { bounds, state: Mutex::new(State { limit, beyond: 0, well: 0, peak: 0, lowered: 0 }) }
    }

    /// Notes that a call has taken a place. Returns how often the limit was lowered before.
    pub(super) fn began(&self, free: &Semaphore) -> u64 {
        let mut state = self.state();
        state.peak = state.peak.max(state.running(free));
        state.lowered
    }

    /// Moves the limit by the end of a call, which still has its place and began after the limit was `lowered` so often.
    pub(super) fn ended(&self, free: &Semaphore, lowered: u64, ended: Ended) {
        let mut state = self.state();
        match ended {
            Ended::SaysNothing => {}
            Ended::Overloaded => {
                if state.lowered == lowered {
                    let lower = (state.limit - state.limit.div_ceil(10)).max(self.bounds.min);
                    let by = state.limit - lower;
                    state.beyond += by - free.forget_permits(by);
                    state.lowered += 1;
                    state.move_to(lower, free);
                }
            }
            // A limit that is not used proves nothing.
            Ended::Well if state.peak * 2 < state.limit => {}
            Ended::Well => {
                state.well += 1;
                if state.well >= state.limit && state.limit < self.bounds.max {
                    let higher = state.limit + 1;
                    state.give_back(free);
                    state.move_to(higher, free);
                }
            }
        }
    }

    pub(super) fn give_back(&self, free: &Semaphore) {
        self.state().give_back(free);
    }

    /// The limit, and how many calls run.
    pub(super) fn in_use(&self, free: &Semaphore) -> (usize, usize) {
        let state = self.state();
        (state.limit, state.running(free))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn running(&self, free: &Semaphore) -> usize {
        (self.limit + self.beyond).saturating_sub(free.available_permits())
    }

    fn move_to(&mut self, limit: usize, free: &Semaphore) {
        self.limit = limit;
        (self.well, self.peak) = (0, self.running(free));
    }

    fn give_back(&mut self, free: &Semaphore) {
        match self.beyond.checked_sub(1) {
            Some(beyond) => self.beyond = beyond,
            None => free.add_permits(1),
        }
    }
}
