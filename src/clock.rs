//! Points in time that lie a setting ahead, however long the setting is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, `duration` after `now`.
pub(crate) fn after(now: i64, duration: Duration) -> i64 {
    now.saturating_add_unsigned(millis(duration))
}

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
        assert_eq!(after(7, Duration::from_nanos(1)), 8);
    }

    #[test]
    fn times_without_end_are_a_century() {
        let now = Instant::now();
        for endless in ENDLESS {
            assert_eq!(later(now, endless), now + CENTURY);
            assert_eq!(u128::from(millis(endless)), CENTURY.as_millis());
            assert_eq!(after(i64::MAX - 1, endless), i64::MAX);
            for part in [0.0, 1e-300, 0.5, 1.0 - 1e-16, 1.0] {
                assert!(share(endless, part) <= endless, "{part}");
            }
        }
    }
}
