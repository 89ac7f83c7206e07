//! When a breaker opens, and how it closes again.

use std::time::Duration;

use crate::ConfigError;
use crate::explain::time;

/// The calls by which a breaker decides whether it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a window does nothing until it is given to a layer"]
pub struct Window {
    pub(super) calls: usize,
    pub(super) time: Option<Duration>,
}

/// The most calls that a window of time has.
const MAX_IN_TIME: usize = 1_000;

/// The most calls that a window may have: each takes a few dozen bytes, in each breaker.
const MAX_CALLS: usize = 10_000;

/// For how long the success of a principal counts against the failures of another one, in a window of calls.
const SUCCESS_COUNTS: Duration = Duration::from_secs(10);

impl Window {
    /// The last calls, whenever they were: for servers with few calls.
    pub const fn calls(calls: usize) -> Self {
        Self { calls, time: None }
    }

    /// The calls of the last time, but not more than the last 1,000.
    pub const fn time(time: Duration) -> Self {
        Self { calls: MAX_IN_TIME, time: Some(time) }
    }

    pub(crate) fn in_words(self) -> String {
        match self.time {
            None => format!("{} calls", self.calls),
            Some(window) => time(window),
        }
    }

    /// For how long the success of a principal counts against the failures of another one.
    pub(super) fn success_counts(self) -> Duration {
        self.time.unwrap_or(SUCCESS_COUNTS)
    }
}

/// The settings of a breaker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) window: Window,
    /// It does not open by fewer calls.
    pub(crate) min_calls: usize,
    /// The share of failures that opens it, from 0 to 1.
    pub(crate) failure_rate: f64,
    /// How long it stays open.
    pub(crate) pause: Duration,
    /// How many calls have to succeed before it closes. No more are let through at the same time.
    pub(crate) probes: usize,
}

impl Rules {
    /// Those of a backend: five failures in a row open the breaker, and then one step every five seconds is a probe.
    pub(crate) const OF_BACKEND: Self =
        Self { window: Window::calls(5), min_calls: 5, failure_rate: 1.0, pause: Duration::from_secs(5), probes: 1 };

    /// Checks the settings of a layer, whose setters have the names of the fields.
    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let Window { calls, time } = self.window;
        let invalid = |setting, reason: String| Err(ConfigError::invalid(layer, setting, reason));
        ConfigError::check_positive(layer, "with_window", calls)?;
        if let Some(time) = time {
            ConfigError::check_timeout(layer, "with_window", time)?;
        }
        if calls > MAX_CALLS {
            return invalid("with_window", format!("is too large: use at most {MAX_CALLS} calls, or a window of time"));
        }
        ConfigError::check_positive(layer, "with_min_calls", self.min_calls)?;
        if self.min_calls > calls {
            return invalid("with_min_calls", format!("the window has at most {calls} calls: set no more than that"));
        }
        if !(self.failure_rate > 0.0 && self.failure_rate <= 1.0) {
            return invalid(
                "with_failure_rate",
                "must be above 0 and at most 1, such as 0.5 for half of the calls".into(),
            );
        }
        ConfigError::check_timeout(layer, "with_pause", self.pause)?;
        ConfigError::check_positive(layer, "with_probes", self.probes)
    }
}
