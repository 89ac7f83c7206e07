//! Warnings with a limited rate, each with the number of those that were suppressed.

#[cfg(feature = "workflow")]
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time during which a warning is not repeated.
const PAUSE: Duration = Duration::from_secs(10);

/// A warning that is logged at most once in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Warning(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Warning {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Said { last: None, unsaid: 0 }))
    }

    /// Returns the number of suppressed warnings since the last one, if the next one is due.
    pub(crate) fn due(&self) -> Option<u64> {
        lock(&self.0).due()
    }
}

/// The number of names with a pause of their own. Authors choose names, so there are few.
#[cfg(feature = "workflow")]
const NAMES: usize = 1_000;

/// A warning for parts without state of their own: logged at most once in ten seconds for each name. Beyond 1,000 names, all
/// others share one pause.
#[cfg(feature = "workflow")]
#[derive(Debug, Default)]
pub(crate) struct NamedWarning(Mutex<HashMap<String, Said>>);

#[cfg(feature = "workflow")]
impl NamedWarning {
    /// [`Warning::due`] for a name.
    pub(crate) fn due(&self, name: &str) -> Option<u64> {
        let mut said = lock(&self.0);
        let name = if said.len() < NAMES || said.contains_key(name) { name } else { "" };
        said.entry(name.to_owned()).or_default().due()
    }
}

impl Said {
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// A backend that fails and works again: logged at most once in ten seconds, and once at the end of the outage.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    warning: Said,
    since: Option<Instant>,
    failures: u64,
    /// Whether a warning of this outage was logged.
    is_said: bool,
}

/// An outage that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// In milliseconds.
    pub(crate) after_ms: u64,
    pub(crate) failures: u64,
}

impl Outage {
    /// Records a failure. Returns the number of suppressed warnings since the last one, if the next one is due.
    pub(crate) fn failed(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        state.since.get_or_insert_with(Instant::now);
        state.failures += 1;
        self.is_on.store(true, Ordering::Release);
        let due = state.warning.due();
        state.is_said |= due.is_some();
        due
    }

    /// Records a success. Returns the outage that it ends, if a warning of it was logged.
    pub(crate) fn worked(&self) -> Option<Over> {
        if !self.is_on.load(Ordering::Acquire) {
            return None;
        }
        let mut state = lock(&self.state);
        self.is_on.store(false, Ordering::Release);
        let (since, failures) = (state.since.take()?, std::mem::take(&mut state.failures));
        let after_ms = crate::clock::millis(since.elapsed());
        std::mem::take(&mut state.is_said).then_some(Over { after_ms, failures })
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[cfg(feature = "workflow")]
    #[tokio::test(start_paused = true)]
    async fn each_name_has_its_own_pause_and_names_beyond_a_thousand_share_one() {
        let warning = NamedWarning::default();
        assert_eq!([warning.due("a"), warning.due("a"), warning.due("b")], [Some(0), None, Some(0)]);
        advance(PAUSE).await;
        assert_eq!(warning.due("a"), Some(1));
        for name in 2..NAMES {
            assert_eq!(warning.due(&name.to_string()), Some(0));
        }
        assert_eq!([warning.due("one more"), warning.due("another"), warning.due("a")], [Some(0), None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_one_warning_is_logged_once_in_ten_seconds_with_a_count_of_the_rest() {
        let warning = Warning::default();
        assert_eq!(warning.due(), Some(0));
        for _ in 0..1_000 {
            assert_eq!(warning.due(), None);
        }
        advance(PAUSE).await;
        assert_eq!(warning.due(), Some(1_000));
        assert_eq!(warning.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_logged_outage_is_logged_once() {
        let outage = Outage::default();
        assert_eq!(outage.worked(), None, "there was none");
        assert_eq!(outage.failed(), Some(0));
        advance(Duration::from_secs(3)).await;
        assert_eq!(outage.failed(), None);
        assert_eq!(outage.worked(), Some(Over { after_ms: 3_000, failures: 2 }));
        assert_eq!(outage.worked(), None, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_fails_every_other_time_does_not_flood_the_log() {
        let (outage, mut said) = (Outage::default(), [0, 0]);
        for _ in 0..200 {
            said[0] += u32::from(outage.failed().is_some());
            said[1] += u32::from(outage.worked().is_some());
            advance(Duration::from_millis(100)).await;
        }
        assert_eq!(said, [2, 2], "in 20 seconds");
    }
}
