//! How long a value is fresh, and what may be done with it afterwards.

use std::time::Duration;

use crate::clock::{CENTURY, share};

/// When values are served, refreshed and dropped. The windows begin where the ttl ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cached) struct Freshness {
    pub(in crate::cached) ttl: Duration,
    /// The largest share of the ttl that is taken off by chance.
    pub(in crate::cached) jitter: f64,
    /// For how long a value past its ttl is served while it is refreshed.
    pub(in crate::cached) while_revalidate: Duration,
    /// For how long it is served where a load fails.
    pub(in crate::cached) if_error: Duration,
    /// How early a value is refreshed: the factor of its load's duration.
    pub(in crate::cached) early: Option<f64>,
}

/// Whether a value may be served, and refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it before its time is over.
    Due,
    /// Serve it, and refresh it.
    Stale,
    /// Serve it, and do not refresh it: a refresh has just failed.
    Cooldown,
    /// Load it anew, and serve it only if that fails.
    Fallback,
    /// Do not serve it.
    Dead,
}

/// How long no refresh begins after one that failed.
pub(in crate::cached) const COOLDOWN: Duration = Duration::from_secs(1);

impl Freshness {
    /// How long one value is fresh, with this ttl: by chance a little less than others.
    pub(in crate::cached) fn draw(&self, ttl: Duration) -> Duration {
        let ttl = ttl.min(CENTURY);
        if self.jitter > 0.0 { share(ttl, 1.0 - self.jitter.min(1.0) * fastrand::f64()) } else { ttl }
    }

    /// How long each value is fresh at least, with this ttl.
    pub(in crate::cached) fn least(&self, ttl: Duration) -> Duration {
        share(ttl.min(CENTURY), 1.0 - self.jitter.clamp(0.0, 1.0))
    }

    /// How long a value is of any use after its ttl.
    pub(in crate::cached) fn grace(&self) -> Duration {
        self.while_revalidate.max(self.if_error).min(CENTURY)
    }

    /// Judges a value of this age that was fresh until `fresh`, took `cost` to load, and whose refresh failed a moment ago or not.
    pub(in crate::cached) fn judge(
        &self,
        age: Duration,
        fresh: Duration,
        cost: Duration,
        is_cooling_down: bool,
    ) -> Verdict {
        let Some(over) = age.checked_sub(fresh) else {
            return if !is_cooling_down && self.is_due(fresh.saturating_sub(age), cost) {
                Verdict::Due
            } else {
                Verdict::Fresh
            };
        };
        if over < self.while_revalidate {
            if is_cooling_down { Verdict::Cooldown } else { Verdict::Stale }
        } else if over < self.if_error {
            if is_cooling_down { Verdict::Cooldown } else { Verdict::Fallback }
        } else {
            Verdict::Dead
        }
    }

    /// Decides by chance whether a value that is fresh for `left` is refreshed already: the likelier, the nearer the end and the
    /// longer the load takes. This is `XFetch` ([Vattani et al. 2015](https://www.vldb.org/pvldb/vol8/p886-vattani.pdf)).
    fn is_due(&self, left: Duration, cost: Duration) -> bool {
        /// The largest value that `-ln` of a random double has.
        const MAX: f64 = 37.0;
        let Some(factor) = self.early else { return false };
        let unit = cost.as_secs_f64() * factor;
        let left = left.as_secs_f64();
        left < unit * MAX && left <= -(1.0 - fastrand::f64()).ln() * unit
    }
}
