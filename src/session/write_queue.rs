//! Who writes next: the writers of a session in this process take turns, so that they do not undo each other's work.
//!
//! A turn saves work; it is the version of the record that keeps writes from undoing each other. So a write whose answer takes long
//! passes its turn on and waits for the answer without it: one slow answer is slow for one caller.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, MutexGuard};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::backend::Record;
use crate::clock::later;

/// The sessions that are being written, or were of late.
#[derive(Default)]
pub(super) struct Turns(Mutex<Table>);

#[derive(Default)]
struct Table {
    turns: HashMap<Arc<str>, Arc<Turn>, foldhash::fast::RandomState>,
    tidy_at: usize,
}

/// How many sessions are remembered beyond those that are being written.
const REMEMBERED: usize = 1024;

/// Which part of the time of a step a turn lasts, however many steps it takes.
const TURN: u32 = 4;

/// The queue of the writers of one session.
#[derive(Default)]
pub(super) struct Turn {
    /// What this process wrote last. A write that finds it unchanged needs no read before.
    last: Queue<Option<Record>>,
    /// When the backend last answered one of them.
    answered: Mutex<Option<Instant>>,
}

/// The right to write, until it is dropped or passed on.
pub(super) struct Writer<'a> {
    last: Option<MutexGuard<'a, Option<Record>>>,
    turn: &'a Turn,
    /// When it is passed on.
    until: Instant,
    /// When the first step has to be answered.
    deadline: Instant,
    limit: Duration,
    is_answered: bool,
}

/// For the time of a step, the backend answered none of those who wrote before.
pub(super) struct Unanswered;

impl Turns {
    pub(super) fn of(&self, id: &Arc<str>) -> Arc<Turn> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = table.turns.get(id) {
            return Arc::clone(turn);
        }
        if table.turns.len() >= table.tidy_at {
            table.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            table.tidy_at = REMEMBERED.max(2 * table.turns.len());
        }
        let turn = Arc::<Turn>::default();
        table.turns.insert(Arc::clone(id), Arc::clone(&turn));
        turn
    }
}

impl Turns {
    /// Notes what a read has found, so that no change is tried on anything older than what its call may have read.
    pub(super) fn saw(&self, id: &Arc<str>, record: Option<&Record>) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = table.turns.get(id)
            && let Ok(mut last) = turn.last.try_lock()
            && last.as_ref().is_some_and(|last| record.is_none_or(|record| record.version != last.version))
        {
            *last = None;
        }
    }
}

#[cfg(test)]
impl Turns {
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turns.len()
    }
}

impl Turn {
    /// Waits for a turn: for as long as those before are answered, and for the time `limit` of a step once they are not.
    pub(super) async fn take(&self, limit: Duration) -> Result<Writer<'_>, Unanswered> {
        let mut deadline = later(Instant::now(), limit);
        let mut turn = pin!(self.last.lock());
        let last = loop {
            if let Ok(last) = timeout_at(deadline, turn.as_mut()).await {
                break Some(last);
            }
            match self.answered().map(|answered| later(answered, limit)) {
                Some(later) if later > deadline => deadline = later,
                _ => break None,
            }
        };
        let now = Instant::now();
        let deadline = self.answered().map_or(deadline, |answered| deadline.max(later(answered, limit)));
        match last {
            Some(_) if now < deadline => {
                Ok(Writer { last, turn: self, until: later(now, limit / TURN), deadline, limit, is_answered: false })
            }
            _ => Err(Unanswered),
        }
    }

    fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    /// Takes what this process wrote last.
    pub(super) fn known(&mut self) -> Option<Record> {
        self.last.as_mut()?.take()
    }

    /// Leaves what was written to the next one, who may have come already.
    pub(super) fn remember(&mut self, record: Option<Record>) {
        if let Some(last) = &mut self.last {
            **last = record;
        }
    }

    /// Waits for the answer to a step, and passes the turn on if that takes long. Who has waited for a turn has waited for the backend.
    pub(super) async fn wait<T, E>(
        &mut self,
        mut step: impl Future<Output = Result<T, E>> + Unpin,
    ) -> Result<Result<T, E>, Elapsed> {
        let end = if self.is_answered { later(Instant::now(), self.limit) } else { self.deadline };
        let mut at = self.until.min(end);
        let ended = loop {
            match timeout_at(at, &mut step).await {
                Err(_) if at < end => (self.last, at) = (None, end),
                ended => break ended,
            }
        };
        if let Ok(Ok(_)) = ended {
            self.is_answered = true;
            *self.turn.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        ended
    }
}
