//! When batches are sent: one task for each batch under way.
//!
//! There is no worker that waits for work. A call that finds a free place starts a task, which takes a batch, answers it, looks
//! for the next one, and ends when there is none. At most one task looks at a time, so a queue that is not empty is looked
//! at by exactly one, or all places are taken and the first that gets free looks.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::answers::BatchError;
use super::execute;
use super::queue::{Group, Item, Next, Queue};
use super::settings::{Settings, WhenFull};

/// What clones of a batcher share.
pub(super) struct Shared<K, V, E> {
    state: Mutex<State<K, V, E>>,
    /// Wakes the task that waits for a batch to fill.
    changed: Notify,
    /// Wakes those who wait until nothing is under way.
    idle: Notify,
    /// Becomes true when batches under way are given up.
    ended: watch::Sender<bool>,
}

pub(super) struct State<K, V, E> {
    pub(super) queue: Queue<K, V, E>,
    /// Tasks, whether they look for a batch or have one under way.
    places: usize,
    is_looking: bool,
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

/// How long a caller who finds a full queue is told to wait.
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

    /// Puts a call in the queue, and sees to it that somebody looks at it.
    pub(super) fn submit(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        group: Group,
        item: Item<K, V, E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(E::closed());
        }
        let mut pushed_out = None;
        if let WhenFull::Refuse = settings.when_full {
            let room = state.queue.make_room(item.share, &group, settings.max_queue);
            state.counts.refused += u64::from(!matches!(room, Ok(None)));
            pushed_out = room.map_err(|()| E::overloaded(RETRY_AFTER))?;
        }
        if state.queue.push(group, item, settings) {
            self.changed.notify_one();
        }
        let place = state.look(self, settings);
        drop(state);
        if let Some(item) = pushed_out {
            item.refuse(E::overloaded(RETRY_AFTER));
        }
        Place::work_in_a_task(place);
        Ok(())
    }

    /// Says that a caller has left, so that nobody waits for others to travel with it.
    pub(super) fn left(&self) {
        self.changed.notify_one();
    }

    /// Accepts no more calls, sends those that wait, and after `grace` answers all that are left.
    pub(super) async fn shut_down(&self, grace: Duration) {
        self.lock().is_closed = true;
        self.changed.notify_one();
        let drained = async {
            loop {
                let idle = self.idle.notified();
                if self.lock().places == 0 {
                    return;
                }
                idle.await;
            }
        };
        let in_time = tokio::time::timeout(grace, drained).await;
        let rest = self.lock().queue.drain();
        if in_time.is_err() {
            self.ended.send_replace(true);
            tracing::warn!(waiting = rest.len(), "batches were given up at the end of a shutdown");
        }
        rest.into_iter().for_each(|item| item.refuse(E::closed()));
    }

    /// Accepts calls again.
    pub(super) fn open(&self) {
        self.lock().is_closed = false;
        self.ended.send_replace(false);
    }
}

impl<K, V, E> State<K, V, E> {
    /// Takes a place for a task that looks for a batch, where there is something to look for, nobody looks, and a place is free.
    fn look(&mut self, shared: &Arc<Shared<K, V, E>>, settings: &Arc<Settings<K, V, E>>) -> Option<Place<K, V, E>>
    where
        K: Send + 'static,
        V: Send + 'static,
        E: BatchError,
    {
        if self.is_looking || self.queue.is_empty() || self.places >= settings.max_in_flight.max(1) {
            return None;
        }
        self.is_looking = true;
        self.places += 1;
        Some(Place { shared: Arc::clone(shared), settings: Arc::clone(settings), doing: Doing::Looking })
    }

    fn give_back(&mut self, doing: &mut Doing, idle: &Notify) {
        match std::mem::replace(doing, Doing::Nothing) {
            Doing::Looking => self.is_looking = false,
            Doing::Sending => self.counts.in_flight -= 1,
            Doing::Nothing => return,
        }
        self.places -= 1;
        if self.places == 0 {
            idle.notify_waiters();
        }
    }
}

/// A place for a batch. Its drop gives it back, however its task ends.
struct Place<K: Send + 'static, V: Send + 'static, E: BatchError> {
    shared: Arc<Shared<K, V, E>>,
    settings: Arc<Settings<K, V, E>>,
    doing: Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Looking,
    Sending,
    Nothing,
}

type Batch<K, V, E> = Vec<Item<K, V, E>>;

impl<K, V, E> Place<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    fn work_in_a_task(place: Option<Self>) {
        if let Some(place) = place {
            tokio::spawn(place.work());
        }
    }

    async fn work(mut self) {
        loop {
            self.gather().await;
            let Some(batch) = self.next_batch().await else { return };
            execute::send(&self.settings, self.shared.ended.subscribe(), batch).await;
            if !self.look_again() {
                return;
            }
        }
    }

    /// Lets run what is ready to: it may be about to make calls, which can travel with those that wait. As long as it makes some,
    /// more may be to come. This takes no time but what others use.
    async fn gather(&self) {
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

    /// Waits until there is a batch to send. Returns `None`, with the place given back, when nothing waits any more.
    async fn next_batch(&mut self) -> Option<Batch<K, V, E>> {
        loop {
            let until = {
                let mut state = self.shared.lock();
                let delay = if state.is_closed { Duration::ZERO } else { self.settings.max_delay };
                match state.queue.next(&self.settings, delay, Instant::now()) {
                    Next::Batch(batch) => {
                        state.is_looking = false;
                        state.counts.in_flight += 1;
                        state.counts.batches += 1;
                        state.counts.sent += batch.len() as u64;
                        self.doing = Doing::Sending;
                        let another = state.look(&self.shared, &self.settings);
                        drop(state);
                        Self::work_in_a_task(another);
                        return Some(batch);
                    }
                    Next::Wait(until) => until,
                    Next::Nothing => {
                        state.give_back(&mut self.doing, &self.shared.idle);
                        return None;
                    }
                }
            };
            select(pin!(sleep_until(until)), pin!(self.shared.changed.notified())).await;
        }
    }

    /// Goes on with what came meanwhile, unless somebody else looks already.
    fn look_again(&mut self) -> bool {
        let mut state = self.shared.lock();
        if state.is_looking || state.queue.is_empty() {
            state.give_back(&mut self.doing, &self.shared.idle);
            return false;
        }
        state.counts.in_flight -= 1;
        state.is_looking = true;
        self.doing = Doing::Looking;
        true
    }
}

impl<K, V, E> Drop for Place<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    /// Only a runtime that shuts down drops a place with something to do. Whoever waits on another one must not wait for ever.
    fn drop(&mut self) {
        if self.doing == Doing::Nothing {
            return;
        }
        let rest = {
            let mut state = self.shared.lock();
            state.give_back(&mut self.doing, &self.shared.idle);
            if state.places == 0 { state.queue.drain() } else { Vec::new() }
        };
        rest.into_iter().for_each(|item| item.refuse(E::lost()));
    }
}

impl<K, V, E> Default for Shared<K, V, E> {
    fn default() -> Self {
        let state = State {
            queue: Queue::default(),
            places: 0,
            is_looking: false,
            is_closed: false,
            counts: Counts::default(),
        };
        Self { state: Mutex::new(state), changed: Notify::new(), idle: Notify::new(), ended: watch::Sender::new(false) }
    }
}
