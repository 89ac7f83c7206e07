//! Points in time that lie a setting ahead, however long the setting is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// As good as for ever. Every clock, counter and backend has room for it.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `duration` after `now`, or a century after where that is sooner.
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    now + duration.min(CENTURY)
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
