//! Times in the future, for durations of any length, and the clocks that measure them.
//!
//! The crate compares no time of the wall clock of the process: it may be wrong, and it may be set. The monotonic clock measures waits
//! and data in memory. The clock of a backend measures times that several processes compare, within the backend's own statement or
//! script: only durations are sent. The wall clock is read in one place, for records that people read.

use std::time::Duration;
#[cfg(feature = "audit")]
use std::time::SystemTime;

use tokio::time::Instant;

/// Counts as forever. Every clock, counter and backend can represent it.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The time of day, only for a record: nothing compares it.
#[cfg(feature = "audit")]
#[expect(clippy::disallowed_methods, reason = "a record of a call needs a time that people and other systems know")]
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// `duration` after `now`, or a century after where that is sooner.
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    now + duration.min(CENTURY)
}

/// A share of a duration, from 0 to 1. Rounding never makes it more than the whole.
pub(crate) fn share(duration: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * share).map_or(duration, |part| part.min(duration))
}

/// Says whether a timeout is below 1 ms, the unit of timers.
pub(crate) fn is_too_short(timeout: Duration) -> bool {
    timeout < Duration::from_millis(1)
}

/// A duration in milliseconds, rounded up, and at most a century. No duration above zero becomes zero, which many backends refuse.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.min(CENTURY).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration in milliseconds, as databases count: see [`millis`].
pub(crate) fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}

/// The time of a database, in milliseconds since 1970, as an SQL expression for [`concat!`].
///
/// PostgreSQL's `clock_timestamp()` advances during a transaction; `now()` does not. An index can be searched by it only in a
/// sub-select, which is evaluated once. SQLite uses the clock of its machine, which does not advance within a statement.
macro_rules! time_of {
    (Postgres) => {
        "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"
    };
    (Sqlite) => {
        "cast(round((julianday('now') - 2440587.5) * 86400000) as integer)"
    };
}
pub(crate) use time_of;

#[cfg(test)]
mod tests {
    use super::*;

    const ENDLESS: [Duration; 3] =
        [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(i64::MAX.unsigned_abs())];

    #[test]
    fn milliseconds_are_rounded_up() {
        for (nanos, rounded) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(millis(Duration::from_nanos(nanos)), rounded, "{nanos} ns");
        }
    }

    #[test]
    fn endless_durations_are_a_century() {
        let now = Instant::now();
        for endless in ENDLESS {
            assert_eq!(later(now, endless), now + CENTURY);
            assert_eq!(u128::from(millis(endless)), CENTURY.as_millis());
            for part in [0.0, 1e-300, 0.5, 1.0 - 1e-16, 1.0] {
                assert!(share(endless, part) <= endless, "{part}");
            }
        }
    }
}
