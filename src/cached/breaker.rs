//! When to leave a failing backend alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open before one call may try.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Lets no call through for a while after five failures in a row, and then one at a time until one succeeds.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    is_probed: bool,
}

/// Leave to make one call. Dropped without a word, the call says nothing about the backend.
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn admit(&self) -> Option<Permit<'_>> {
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
    pub(super) fn is_open(&self) -> bool {
        self.lock().open_until.is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    pub(super) fn succeeded(self) {
        let mut state = self.breaker.lock();
        state.failures = 0;
        state.open_until = None;
    }

    /// Says whether the breaker has opened for that.
    pub(super) fn failed(self) -> bool {
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

    fn fail(breaker: &Breaker) {
        breaker.admit().expect("leave to call").failed();
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_and_one_probe_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..4 {
            fail(&breaker);
        }
        breaker.admit().expect("leave to call").succeeded();
        for _ in 0..5 {
            fail(&breaker);
        }
        assert!(breaker.admit().is_none() && breaker.is_open());
        advance(PAUSE).await;
        let probe = breaker.admit().expect("a probe");
        assert!(breaker.admit().is_none(), "one at a time");
        probe.failed();
        assert!(breaker.admit().is_none(), "it stays open");
        advance(PAUSE).await;
        drop(breaker.admit().expect("a probe"));
        breaker.admit().expect("a dropped probe lets the next one through").succeeded();
        fail(&breaker);
        assert!(breaker.admit().is_some(), "closed");
    }
}
