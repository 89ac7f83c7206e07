//! The queue of the writers of a session in this process: they write one after the other, so that they do not conflict.
//!
//! The queue only saves work; the version of the record prevents lost updates. So a write whose answer takes long passes its turn on
//! and waits for the answer outside the queue: one slow answer delays one caller.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, MutexGuard};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::backend::Record;
use crate::clock::later;

/// The queues of the sessions that are being written, or were recently.
#[derive(Default)]
pub(super) struct WriteQueues(Mutex<Table>);

#[derive(Default)]
struct Table {
    queues: HashMap<Arc<str>, Arc<WriteQueue>, foldhash::fast::RandomState>,
    tidy_at: usize,
}

/// How many sessions are remembered beyond those that are being written.
const REMEMBERED: usize = 1024;

/// A turn lasts this fraction of the time of a step, however many steps it takes.
const TURN_FRACTION: u32 = 4;

/// The queue of the writers of one session.
#[derive(Default)]
pub(super) struct WriteQueue {
    /// The record that this process wrote last. A write that finds it unchanged needs no read before.
    last: FairMutex<Option<Record>>,
    /// When the backend last answered one of the writers.
    answered: Mutex<Option<Instant>>,
}

/// The right to write, until it is dropped or passed on.
pub(super) struct Writer<'a> {
    last: Option<MutexGuard<'a, Option<Record>>>,
    queue: &'a WriteQueue,
    /// When the turn is passed on.
    until: Instant,
    /// When the first step must be answered.
    deadline: Instant,
    limit: Duration,
    is_answered: bool,
}

/// The backend answered none of the writers before this one for the time of a step.
pub(super) struct Unanswered;

impl WriteQueues {
    pub(super) fn of(&self, id: &Arc<str>) -> Arc<WriteQueue> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = table.queues.get(id) {
            return Arc::clone(queue);
        }
        if table.queues.len() >= table.tidy_at {
            table.queues.retain(|_, queue| Arc::strong_count(queue) > 1);
            table.tidy_at = REMEMBERED.max(2 * table.queues.len());
        }
        let queue = Arc::<WriteQueue>::default();
        table.queues.insert(Arc::clone(id), Arc::clone(&queue));
        queue
    }

    /// Forgets the remembered record if a read has found another version, so that no change is tried on an older record than its
    /// call may have read.
    pub(super) fn saw(&self, id: &Arc<str>, record: Option<&Record>) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = table.queues.get(id)
            && let Ok(mut last) = queue.last.try_lock()
            && last.as_ref().is_some_and(|last| record.is_none_or(|record| record.version != last.version))
        {
            *last = None;
        }
    }
}

#[cfg(test)]
impl WriteQueues {
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queues.len()
    }
}

impl WriteQueue {
    /// Waits for the right to write: as long as the writers before are answered, and for the time `limit` of a step once they are not.
    pub(super) async fn enter(&self, limit: Duration) -> Result<Writer<'_>, Unanswered> {
        let mut deadline = later(Instant::now(), limit);
        let mut lock = pin!(self.last.lock());
        let last = loop {
            if let Ok(last) = timeout_at(deadline, lock.as_mut()).await {
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
            Some(_) if now < deadline => Ok(Writer {
                last,
                queue: self,
                until: later(now, limit / TURN_FRACTION),
                deadline,
                limit,
                is_answered: false,
            }),
            _ => Err(Unanswered),
        }
    }

    fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    /// Takes the record that this process wrote last.
    pub(super) fn known(&mut self) -> Option<Record> {
        self.last.as_mut()?.take()
    }

    /// Hands the record that was written to the next writer.
    pub(super) fn remember(&mut self, record: Option<Record>) {
        if let Some(last) = &mut self.last {
            **last = record;
        }
    }

    /// Waits for the answer to a step, and passes the turn on if that takes long. The wait in the queue counts as a wait for the backend.
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
            *self.queue.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        ended
    }
}
