//! The rate of calls: the generic cell rate algorithm.

use std::time::Duration;

use crate::explain::time;

/// How many calls may be made in a period, for [`LimitedTool::with_rate`](super::LimitedTool::with_rate).
///
/// A caller who has made no call for a while may make up to the [burst](Self::with_burst) at once. From then on, each call has to wait
/// until its part of the period has passed: with 60 calls per minute, one second. This is the generic cell rate algorithm of ATM networks
/// (ITU-T I.371): there is no window at whose end the calls of two windows come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a rate does nothing until it is given to a layer"]
pub struct Rate {
    pub(super) calls: u32,
    pub(super) period: Duration,
    pub(super) burst: u32,
}

impl Rate {
    /// Allows as many calls in each period, and as many at once.
    pub const fn new(calls: u32, period: Duration) -> Self {
        Self { calls, period, burst: calls }
    }

    /// Allows as many calls in each second, and as many at once.
    pub const fn per_second(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(1))
    }

    /// Allows as many calls in each minute, and as many at once.
    pub const fn per_minute(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(60))
    }

    /// Allows as many calls in each hour, and as many at once.
    pub const fn per_hour(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(3600))
    }

    /// Allows as many calls at once, instead of those of a whole period.
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// Returns why the rate cannot work.
    pub(super) fn mistake(self) -> Option<&'static str> {
        match self {
            Self { calls: 0, .. } => Some("no call would ever be let through: allow at least one"),
            Self { burst: 0, .. } => Some("no call would ever be let through: set a burst of at least one"),
            Self { period: Duration::ZERO, .. } => Some("the period is zero: set one, such as a second"),
            _ => None,
        }
    }

    /// The time that the cost of one call takes to come back, in nanoseconds, rounded up: never more calls than allowed.
    pub(super) fn interval(self) -> u128 {
        self.period.as_nanos().div_ceil(u128::from(self.calls))
    }

    fn time_of(self, calls: u64) -> u128 {
        self.interval().saturating_mul(u128::from(calls))
    }

    pub(super) fn in_words(self) -> String {
        let Self { calls, period, burst } = self;
        let rate = format!("{calls} in {}", time(period));
        if calls == burst { rate } else { format!("{rate}, {burst} at once") }
    }
}

/// What has been used of a rate: the time at which all of it is back, in nanoseconds of the table's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    until: u128,
}

impl Used {
    /// Returns the time after which a call of this cost could be made, if it cannot be made now.
    ///
    /// A call that costs more than the burst waits until nothing is used, and then uses what it costs: the next one waits for it.
    pub(super) fn wait(self, rate: Rate, cost: u64, now: u128) -> Option<Duration> {
        if cost == 0 {
            return None;
        }
        let burst = u64::from(rate.burst);
        let ahead = self.ahead(now).saturating_add(rate.time_of(cost.min(burst)));
        match ahead.saturating_sub(rate.time_of(burst)) {
            0 => None,
            wait => Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))),
        }
    }

    /// Takes the cost of a call.
    pub(super) fn pay(&mut self, rate: Rate, cost: u64, now: u128) {
        self.until = self.until.max(now).saturating_add(rate.time_of(cost));
    }

    /// Gives the cost of a call back that was not made.
    pub(super) fn give_back(&mut self, rate: Rate, cost: u64) {
        self.until = self.until.saturating_sub(rate.time_of(cost));
    }

    /// The time until nothing is used, in nanoseconds.
    pub(super) fn ahead(self, now: u128) -> u128 {
        self.until.saturating_sub(now)
    }

    /// Learns that so much was used at a time. What is known to be used stays so.
    #[cfg(feature = "redis")]
    pub(super) fn note(&mut self, ahead: u128, at: u128) {
        self.until = self.until.max(at.saturating_add(ahead));
    }
}
