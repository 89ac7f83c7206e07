//! The terms of a load: why it begins, what it asks, and how it ends.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::cached::first_level::Probe;
use crate::cached::first_level::invalidation_key::InvalidationKey;

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a cache within its ttl: that of this process (level 1), or the second level.
    Hit { age: Duration, level: u8 },
    /// From a cache past its ttl.
    Stale { age: Duration, level: u8 },
    /// From the source.
    Load,
    /// From the source, for one caller alone, and not kept.
    Own,
}

impl Source {
    pub(in crate::cached) fn of_probe<V>(probe: &Probe<V>) -> Self {
        let age = probe.age();
        if probe.is_fresh() { Self::Hit { age, level: 1 } } else { Self::Stale { age, level: 1 } }
    }
}

/// How a load ends.
pub(in crate::cached) type Outcome<V, E> = Result<(V, Source), E>;

/// The future that asks the source. On the heap: it is handed on through several futures, each of which would store it again.
pub(in crate::cached) type Loading<V, E> = BoxFuture<'static, Result<V, E>>;

/// Why a load begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Reason {
    /// A caller waits for the value.
    Asked,
    /// A value is past its ttl, or soon will be. No caller waits.
    Refresh,
    /// A caller wants a new value, whatever is kept.
    Forced,
}

/// A load of one key.
pub(in crate::cached) struct LoadPlan<'a> {
    /// The keys that invalidate the value.
    pub(in crate::cached) keys: &'a [InvalidationKey],
    pub(in crate::cached) ttl: Duration,
    pub(in crate::cached) reason: Reason,
}

/// Returns when the last clone of the cache is dropped.
pub(in crate::cached) async fn ended(mut alive: watch::Receiver<()>) {
    while alive.changed().await.is_ok() {}
}
