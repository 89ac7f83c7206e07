//! Points in time that lie a setting ahead, however long the setting is, and the clocks that they are measured by.
//!
//! Nothing here, and nothing else in the crate, reads the wall clock of the process: it may be wrong, and it may be set. Waits and
//! what is in memory are measured by the monotonic clock. Times that several processes compare are measured by the clock of the
//! backend that keeps them, within its own statement or script: only durations travel.

use std::time::Duration;

use tokio::time::Instant;

/// As good as for ever. Every clock, counter and backend has room for it.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `duration` after `now`, or a century after where that is sooner.
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    now + duration.min(CENTURY)
}

/// A share of a duration, from 0 to 1: no rounding makes it more than the whole.
pub(crate) fn share(duration: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * share).map_or(duration, |part| part.min(duration))
}

/// Whether a timeout leaves no time for anything: timers count in milliseconds.
pub(crate) fn is_too_short(timeout: Duration) -> bool {
    timeout < Duration::from_millis(1)
}

/// A duration in milliseconds, rounded up and a century at the most: nothing above zero becomes zero, which many backends refuse.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.min(CENTURY).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration in milliseconds, as databases count: see [`millis`].
pub(crate) fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}

/// The time of a database, in milliseconds since 1970, as an SQL expression for [`concat!`].
///
/// PostgreSQL's `clock_timestamp()` goes on while a transaction runs; `now()` stands still. An index can be searched by it in a
/// sub-select only, which is evaluated once. SQLite has the clock of its machine, which stands still within a statement.
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
    fn times_without_end_are_a_century() {
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
