//! The circuit breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open before it lets one probe through.
pub(in crate::limited) const PAUSE: Duration = Duration::from_secs(5);

/// Lets no call through for a while after five failures in a row, and then one at a time until one succeeds.
#[derive(Debug, Default)]
pub(in crate::limited) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    is_probed: bool,
}

/// The permit for one call. Dropped without an outcome, it does not change the breaker.
pub(in crate::limited) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(in crate::limited) fn admit(&self) -> Option<Permit<'_>> {
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
    pub(in crate::limited) fn is_open(&self) -> bool {
        self.lock().open_until.is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Says whether this has closed the breaker.
    pub(in crate::limited) fn succeeded(self) -> bool {
        let mut state = self.breaker.lock();
        state.failures = 0;
        state.open_until.take().is_some()
    }

    /// Says whether this has opened the breaker.
    pub(in crate::limited) fn failed(self) -> bool {
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
