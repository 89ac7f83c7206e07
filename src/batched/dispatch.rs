//! When batches are sent: one task for each batch in flight.
//!
//! There is no permanent worker. A call that finds a free slot starts a task, which collects a batch, sends it, collects the next one,
//! and ends when the queue is empty. At most one task collects at a time. So if the queue is not empty, exactly one task collects, or
//! all slots are taken and the first task that has sent its batch collects.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::error::BatchError;
use super::execute;
use super::queue::{Group, Next, Queue, QueuedItem};
use super::settings::{Settings, WhenFull};

/// The state that clones of a batcher share.
pub(super) struct Shared<K, V, E> {
    state: Mutex<State<K, V, E>>,
    /// Wakes the task that waits for a batch to fill.
    changed: Notify,
    /// Wakes a shutdown that waits until no batch is in flight.
    idle: Notify,
    /// Becomes true when batches in flight are aborted.
    ended: watch::Sender<bool>,
}

pub(super) struct State<K, V, E> {
    pub(super) queue: Queue<K, V, E>,
    /// The tasks that collect or send a batch.
    slots: usize,
    is_collecting: bool,
    is_closed: bool,
    pub(super) counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) in_flight: usize,
    pub(super) sent: u64,
    pub(super) batches: u64,
    pub(super) refused: u64,
}

/// The time after which a caller who finds the queue full should call again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<K, V, E> Shared<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    pub(super) fn lock(&self) -> MutexGuard<'_, State<K, V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call to the queue, and starts a task for it if no task collects and a slot is free.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        group: Group,
        item: QueuedItem<K, V, E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(E::closed());
        }
        let mut displaced = None;
        if let WhenFull::Refuse = settings.when_full {
            let room = state.queue.make_room(item.share, &group, settings.max_queue);
            state.counts.refused += u64::from(!matches!(room, Ok(None)));
            displaced = room.map_err(|()| E::overloaded(RETRY_AFTER))?;
        }
        if state.queue.push(group, item, settings) {
            self.changed.notify_one();
        }
        let slot = state.take_slot(self, settings);
        drop(state);
        if let Some(item) = displaced {
            item.reject(E::overloaded(RETRY_AFTER));
        }
        Slot::spawn(slot);
        Ok(())
    }

    /// Wakes the task that collects, because a caller has left.
    pub(super) fn caller_left(&self) {
        self.changed.notify_one();
    }

    /// Accepts no more calls, sends those that wait, and rejects those that are left after `grace`.
    pub(super) async fn shut_down(&self, grace: Duration) {
        self.lock().is_closed = true;
        self.changed.notify_one();
        let all_sent = async {
            loop {
                let idle = self.idle.notified();
                if self.lock().slots == 0 {
                    return;
                }
                idle.await;
            }
        };
        let drained = tokio::time::timeout(grace, all_sent).await;
        let rest = self.lock().queue.drain();
        if drained.is_err() {
            self.ended.send_replace(true);
            tracing::warn!(waiting = rest.len(), "batches were aborted at the end of a shutdown");
        }
        rest.into_iter().for_each(|item| item.reject(E::closed()));
    }

    /// Accepts calls again.
    pub(super) fn open(&self) {
        self.lock().is_closed = false;
        self.ended.send_replace(false);
    }
}

impl<K, V, E> State<K, V, E> {
    /// Takes a slot for a task that collects a batch, if calls wait, no other task collects, and a slot is free.
    fn take_slot(&mut self, shared: &Arc<Shared<K, V, E>>, settings: &Arc<Settings<K, V, E>>) -> Option<Slot<K, V, E>>
    where
        K: Send + 'static,
        V: Send + 'static,
        E: BatchError,
    {
        if self.is_collecting || self.queue.is_empty() || self.slots >= settings.max_in_flight.max(1) {
            return None;
        }
        self.is_collecting = true;
        self.slots += 1;
        Some(Slot { shared: Arc::clone(shared), settings: Arc::clone(settings), phase: Phase::Collecting })
    }

    fn release(&mut self, phase: &mut Phase, idle: &Notify) {
        match std::mem::replace(phase, Phase::Done) {
            Phase::Collecting => self.is_collecting = false,
            Phase::Sending => self.counts.in_flight -= 1,
            Phase::Done => return,
        }
        self.slots -= 1;
        if self.slots == 0 {
            idle.notify_waiters();
        }
    }
}

/// The right to have one batch in flight. Its drop releases it, however its task ends.
struct Slot<K: Send + 'static, V: Send + 'static, E: BatchError> {
    shared: Arc<Shared<K, V, E>>,
    settings: Arc<Settings<K, V, E>>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Collecting,
    Sending,
    Done,
}

type Batch<K, V, E> = Vec<QueuedItem<K, V, E>>;

impl<K, V, E> Slot<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    fn spawn(slot: Option<Self>) {
        if let Some(slot) = slot {
            tokio::spawn(slot.run());
        }
    }

    async fn run(mut self) {
        loop {
            self.let_others_call().await;
            let Some(batch) = self.next_batch().await else { return };
            execute::run(&self.settings, self.shared.ended.subscribe(), batch).await;
            if !self.collect_again() {
                return;
            }
        }
    }

    /// Yields to tasks that are ready to run: they may be about to make calls, which can join the batch. Yields again as long as new
    /// calls arrive. This takes only the time that other tasks use.
    async fn let_others_call(&self) {
        let mut waiting = self.shared.lock().queue.len();
        loop {
            tokio::task::yield_now().await;
            let more = self.shared.lock().queue.len();
            if more <= waiting || more >= self.settings.max_size {
                return;
            }
            waiting = more;
        }
    }

    /// Waits until there is a batch to send. Returns `None`, with the slot released, when the queue is empty.
    async fn next_batch(&mut self) -> Option<Batch<K, V, E>> {
        loop {
            let until = {
                let mut state = self.shared.lock();
                let delay = if state.is_closed { Duration::ZERO } else { self.settings.max_delay };
                match state.queue.next(&self.settings, delay, Instant::now()) {
                    Next::Batch(batch) => {
                        state.is_collecting = false;
                        state.counts.in_flight += 1;
                        state.counts.batches += 1;
                        state.counts.sent += batch.len() as u64;
                        self.phase = Phase::Sending;
                        let another = state.take_slot(&self.shared, &self.settings);
                        drop(state);
                        Self::spawn(another);
                        return Some(batch);
                    }
                    Next::Wait(until) => until,
                    Next::Nothing => {
                        state.release(&mut self.phase, &self.shared.idle);
                        return None;
                    }
                }
            };
            select(pin!(sleep_until(until)), pin!(self.shared.changed.notified())).await;
        }
    }

    /// Starts to collect again, unless the queue is empty or another task collects. Returns false with the slot released.
    fn collect_again(&mut self) -> bool {
        let mut state = self.shared.lock();
        if state.is_collecting || state.queue.is_empty() {
            state.release(&mut self.phase, &self.shared.idle);
            return false;
        }
        state.counts.in_flight -= 1;
        state.is_collecting = true;
        self.phase = Phase::Collecting;
        true
    }
}

impl<K, V, E> Drop for Slot<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    /// Only a runtime that shuts down drops a slot before it is done. Callers on another runtime must not wait forever.
    fn drop(&mut self) {
        if self.phase == Phase::Done {
            return;
        }
        let rest = {
            let mut state = self.shared.lock();
            state.release(&mut self.phase, &self.shared.idle);
            if state.slots == 0 { state.queue.drain() } else { Vec::new() }
        };
        rest.into_iter().for_each(|item| item.reject(E::aborted()));
    }
}

impl<K, V, E> Default for Shared<K, V, E> {
    fn default() -> Self {
        let state = State {
            queue: Queue::default(),
            slots: 0,
            is_collecting: false,
            is_closed: false,
            counts: Counts::default(),
        };
        Self { state: Mutex::new(state), changed: Notify::new(), idle: Notify::new(), ended: watch::Sender::new(false) }
    }
}
