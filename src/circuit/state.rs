//! The states of a breaker, and why they change.

use std::fmt;

use tokio::time::Instant;

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It lets all calls through.
    Closed,
    /// It refuses all calls until its pause is over.
    Open,
    /// It lets as many calls through as there are probes, and closes once they have succeeded.
    HalfOpen,
    /// It refuses all calls until it is released.
    ForcedOpen,
    /// It lets all calls through until it is released, whatever their results.
    ForcedClosed,
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    /// Says whether a breaker in this state refuses some or all calls.
    pub(crate) const fn refuses(self) -> bool {
        matches!(self, Self::Open | Self::HalfOpen | Self::ForcedOpen)
    }
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Too many calls failed.
    Failures,
    /// Too many calls were slow: more than those that failed.
    SlowCalls,
    /// The pause is over.
    PauseOver,
    /// A probe failed or was slow.
    ProbeFailed,
    /// All probes succeeded.
    ProbesSucceeded,
    /// A handle has forced the state.
    Forced,
    /// A handle has released the breaker.
    Released,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::SlowCalls => "slow_calls",
            Self::PauseOver => "pause_over",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Forced => "forced",
            Self::Released => "released",
        }
    }
}

/// A change of the state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) reason: Reason,
    pub(crate) at: Instant,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
