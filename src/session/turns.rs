//! Who writes next: the writers of a session in this process take turns, so that they do not undo each other's work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Queue, MutexGuard};

use super::SessionError;
use super::backend::Record;

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

/// The queue of the writers of one session.
#[derive(Default)]
pub(super) struct Turn {
    /// What this process wrote last. A write that finds it unchanged needs no read before.
    last: Queue<Option<Record>>,
    failures: AtomicU64,
}

/// The right to write, until it is dropped.
pub(super) struct Writer<'a> {
    pub(super) last: MutexGuard<'a, Option<Record>>,
    failures: &'a AtomicU64,
}

/// The backend failed whoever had the turn: who waited for it need not find that out one after the other.
pub(super) struct FailedMeanwhile;

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
    /// Waits for a turn. With the store failing, nobody waits longer than the one whose turn it is.
    pub(super) async fn take(&self) -> Result<Writer<'_>, FailedMeanwhile> {
        let before = self.failures.load(Ordering::Acquire);
        let last = self.last.lock().await;
        match self.failures.load(Ordering::Acquire) == before {
            true => Ok(Writer { last, failures: &self.failures }),
            false => Err(FailedMeanwhile),
        }
    }
}

impl Writer<'_> {
    /// Notes that the backend failed, if that concerns those who wait.
    pub(super) fn failed(&self, error: &SessionError) {
        if !error.concerns_all() {
            return;
        }
        self.failures.fetch_add(1, Ordering::AcqRel);
    }
}
