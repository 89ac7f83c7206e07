//! The calls with keys that are in flight in this process.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cancellation::{Cancellation, cancelled};
use crate::clock::later;

/// The maximum of calls that are remembered here. Others wait for each other in the database only, which decides
/// anyway.
const MAX_KEYS: usize = 65_536;

/// The calls with keys that run in this process. Waiting duplicates see when the answer is recorded.
///
/// A duplicate that waits here holds no connection, and on SQLite does not compete for the one write lock.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<String, watch::Receiver<bool>>>);

/// Whether a call with a key may begin.
pub(super) enum Admission<'a> {
    /// It is the first with its key, until the guard is dropped.
    First(FirstCall<'a>),
    /// There may be an answer, or too many calls to remember: the database decides.
    AskDatabase,
    /// The first call with the key has not ended in time.
    InProgress,
    Cancelled,
}

impl InFlight {
    /// Waits no longer than `wait` for the first call with the key `id`.
    pub(super) async fn admit(&self, id: &str, wait: Duration, cancellation: &impl Cancellation) -> Admission<'_> {
        let until = later(Instant::now(), wait);
        loop {
            let mut first = match self.enter(id) {
                Entry::Running(first) => first,
                Entry::Admitted(admission) => return admission,
            };
            // The wait ends with the guard, too, whose sender is dropped with it.
            let ended = pin!(timeout_at(until, first.wait_for(|is_recorded| *is_recorded)));
            match select(ended, pin!(cancelled(cancellation))).await {
                Either::Left((Ok(Ok(_)), _)) => return Admission::AskDatabase,
                // It failed: one of the waiting calls is the next.
                Either::Left((Ok(Err(_)), _)) => {}
                Either::Left((Err(_), _)) => return Admission::InProgress,
                Either::Right(_) => return Admission::Cancelled,
            }
        }
    }

    fn enter(&self, id: &str) -> Entry<'_> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = running.get(id) {
            return Entry::Running(first.clone());
        }
        if running.len() >= MAX_KEYS {
            return Entry::Admitted(Admission::AskDatabase);
        }
        let (is_recorded, first) = watch::channel(false);
        running.insert(id.to_owned(), first);
        Entry::Admitted(Admission::First(FirstCall { in_flight: self, id: id.to_owned(), is_recorded }))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

enum Entry<'a> {
    Running(watch::Receiver<bool>),
    Admitted(Admission<'a>),
}

/// The first call with a key. Its drop lets the next one begin.
#[derive(Debug)]
pub(super) struct FirstCall<'a> {
    in_flight: &'a InFlight,
    id: String,
    is_recorded: watch::Sender<bool>,
}

impl FirstCall<'_> {
    /// Lets all waiting calls read the answer concurrently.
    pub(super) fn has_answer(&self) {
        self.is_recorded.send_replace(true);
    }
}

impl Drop for FirstCall<'_> {
    fn drop(&mut self) {
        // Before the sender is dropped: calls that see the drop must not find the entry.
        self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
