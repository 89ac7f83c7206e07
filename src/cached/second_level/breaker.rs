//! The circuit breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open before it lets one probe through.
pub(in crate::cached) const PAUSE: Duration = Duration::from_secs(5);

/// Lets no call through for a while after five failures in a row, and then one at a time until one succeeds.
#[derive(Debug, Default)]
pub(in crate::cached) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    is_probed: bool,
}

/// The permit for one call. Dropped without an outcome, it does not change the breaker.
pub(in crate::cached) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(in crate::cached) fn admit(&self) -> Option<Permit<'_>> {
        let mut state = self.lock();
        let is_probe = match state.open_until {
            None => false,
            Some(until) if Instant::now() < until || state.is_probed => return None,
            Some(_) => true,
        };
        state.is_probed |= is_probe;
        Some(Permit { breaker: self, is_probe })
    }

    /// Says whether a call would be refused now.
    pub(in crate::cached) fn is_open(&self) -> bool {
        self.lock().open_until.is_some_and(|until| Instant::now() < until)
    }

    /// Says whether the breaker lets all calls through.
    pub(in crate::cached) fn is_closed(&self) -> bool {
        self.lock().open_until.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Says whether this has closed the breaker.
    pub(in crate::cached) fn succeeded(self) -> bool {
        let mut state = self.breaker.lock();
        state.failures = 0;
        state.open_until.take().is_some()
    }

    /// Says whether this has opened the breaker.
    pub(in crate::cached) fn failed(self) -> bool {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        let opens = self.is_probe || (state.failures >= FAILURES && state.open_until.is_none());
        if opens {
            state.open_until = Some(Instant::now() + PAUSE);
        }
        opens && !self.is_probe
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn fail(breaker: &Breaker) -> bool {
        breaker.admit().expect("a permit").failed()
    }

    fn succeed(breaker: &Breaker) -> bool {
        breaker.admit().expect("a permit").succeeded()
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_breaker_and_one_probe_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!fail(&breaker));
        }
        assert!(!succeed(&breaker), "it was not open");
        for _ in 0..4 {
            assert!(!fail(&breaker));
        }
        assert!(fail(&breaker), "it opens");
        assert!(breaker.admit().is_none() && breaker.is_open() && !breaker.is_closed());
        advance(PAUSE).await;
        assert!(!breaker.is_open() && !breaker.is_closed(), "half open");
        let probe = breaker.admit().expect("a probe");
        assert!(breaker.admit().is_none(), "one at a time");
        assert!(!probe.failed(), "it was open before");
        assert!(breaker.admit().is_none() && breaker.is_open(), "it stays open");
        advance(PAUSE).await;
        drop(breaker.admit().expect("a probe"));
        assert!(succeed(&breaker), "a dropped probe lets the next one through, and that closes it");
        assert!(!fail(&breaker));
        assert!(breaker.is_closed() && breaker.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_after_the_breaker_opened_neither_open_it_again_nor_keep_it_open_longer() {
        let breaker = Breaker::default();
        let late: Vec<_> = (0..8).map(|_| breaker.admit().expect("a permit")).collect();
        let opened = late.into_iter().map(Permit::failed).filter(|opened| *opened).count();
        assert_eq!(opened, 1);
        let late = {
            advance(PAUSE).await;
            breaker.admit().expect("a probe")
        };
        assert!(late.succeeded());
    }
}
