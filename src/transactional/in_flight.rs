//! Which keys this process is at work on.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cancellation::{Cancellation, cancelled};
use crate::clock::later;

/// More calls than this at the same time wait for each other in the database only, which knows the truth anyway.
const MAX_KEYS: usize = 65_536;

/// The calls with a key that run in this process, each with a word for those who wait: whether its answer is recorded.
///
/// A duplicate that waits here holds no connection, and on SQLite does not compete for the one write lock.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<String, watch::Receiver<bool>>>);

/// What a call finds that wants to begin.
pub(super) enum Turn<'a> {
    /// It is the first with its key, until the guard is dropped.
    First(First<'a>),
    /// There may be an answer, or too many calls to remember: the database knows.
    Ask,
    /// The first one has not come to its end in time.
    InProgress,
    Cancelled,
}

impl Running {
    /// Waits no longer than `wait` for the first call with the key `id`.
    pub(super) async fn turn(&self, id: &str, wait: Duration, cancellation: &impl Cancellation) -> Turn<'_> {
        let until = later(Instant::now(), wait);
        loop {
            let mut first = match self.enter(id) {
                Entered::Running(first) => first,
                Entered::Turn(turn) => return turn,
            };
            // Ends with the guard too, whose sender is dropped with it.
            let ended = pin!(timeout_at(until, first.wait_for(|is_recorded| *is_recorded)));
            match select(ended, pin!(cancelled(cancellation))).await {
                Either::Left((Ok(Ok(_)), _)) => return Turn::Ask,
                // It failed: one of those who wait is the next.
                Either::Left((Ok(Err(_)), _)) => {}
                Either::Left((Err(_), _)) => return Turn::InProgress,
                Either::Right(_) => return Turn::Cancelled,
            }
        }
    }

    fn enter(&self, id: &str) -> Entered<'_> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = running.get(id) {
            return Entered::Running(first.clone());
        }
        if running.len() >= MAX_KEYS {
            return Entered::Turn(Turn::Ask);
        }
        let (word, first) = watch::channel(false);
        running.insert(id.to_owned(), first);
        Entered::Turn(Turn::First(First { running: self, id: id.to_owned(), word }))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

enum Entered<'a> {
    Running(watch::Receiver<bool>),
    Turn(Turn<'a>),
}

/// Being the first call with a key. Its drop lets the next one begin.
#[derive(Debug)]
pub(super) struct First<'a> {
    running: &'a Running,
    id: String,
    word: watch::Sender<bool>,
}

impl First<'_> {
    /// Tells those who wait that there is an answer to be read, for all of them at the same time.
    pub(super) fn has_answer(&self) {
        self.word.send_replace(true);
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        // Before the sender: who hears of the end finds the place free.
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
