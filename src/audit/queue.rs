//! The events of a buffer, and the task that writes them.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::destination::Destination;
use super::event::Event;
use super::losses::Losses;
use crate::telemetry::Outage;

/// The events of a buffer. It has no bound of its own.
pub(super) struct Queue {
    pub(super) name: String,
    state: Mutex<State>,
    /// Notified when events have left the buffer, or a place in it is free again.
    changed: Notify,
    pub(super) destination: tokio::sync::Mutex<Box<dyn Destination>>,
    pub(super) losses: Losses,
    outage: Outage,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) events: VecDeque<Arc<Event>>,
    /// The places that are kept for calls that have waited for them.
    reserved: usize,
    /// The number of events that have left the buffer: the destination has taken them.
    pub(super) written: u64,
    /// Whether a task writes the events.
    is_running: bool,
}

/// How many events are written together.
const BATCH: usize = 100;

/// The pause after a failure. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A place in the buffer that is kept for one event.
pub(super) struct Room(Option<Arc<Queue>>);

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.state().reserved -= 1;
            queue.changed.notify_waiters();
        }
    }
}

impl State {
    pub(super) fn has_room(&self, capacity: usize) -> bool {
        self.events.len() + self.reserved < capacity
    }
}

impl Queue {
    pub(super) fn new(destination: Box<dyn Destination>) -> Self {
        let name = destination.name().to_owned();
        Self {
            losses: Losses::new(&name),
            name,
            state: Mutex::default(),
            changed: Notify::new(),
            destination: tokio::sync::Mutex::new(destination),
            outage: Outage::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state gives a value.
    pub(super) async fn until<T>(&self, mut value: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on, no change is missed.
            changed.as_mut().enable();
            if let Some(value) = value(&mut self.state()) {
                return value;
            }
            changed.await;
        }
    }

    /// Waits for room, and keeps it.
    pub(super) async fn reserve(self: &Arc<Self>, capacity: usize) -> Room {
        let reserved = self.until(|state| {
            let has_room = state.has_room(capacity);
            state.reserved += usize::from(has_room);
            has_room.then_some(())
        });
        reserved.await;
        Room(Some(Arc::clone(self)))
    }

    /// Adds an event, and says whether there was room for it.
    pub(super) fn push(&self, event: &Arc<Event>, room: Option<Room>, capacity: usize) -> bool {
        let mut state = self.state();
        // Under one lock, so that no other event gets the room that was kept for this one.
        if room.and_then(|mut room| room.0.take()).is_some() {
            state.reserved -= 1;
        }
        let has_room = state.has_room(capacity);
        if has_room {
            state.events.push_back(Arc::clone(event));
        }
        has_room
    }

    /// Makes sure that a task writes the events. Without a runtime, they wait for the next event that has one.
    pub(super) fn run(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.state();
        let is_needed = !state.is_running && !state.events.is_empty();
        state.is_running |= is_needed;
        drop(state);
        if is_needed {
            // Without the lock: a runtime that shuts down drops the task at once.
            runtime.spawn(Running { queue: Arc::clone(self), is_done: false }.write_all());
        }
    }

    fn next_batch(&self) -> Vec<Arc<Event>> {
        let mut state = self.state();
        // Under one lock: an event that comes later begins a new task.
        state.is_running = !state.events.is_empty();
        state.events.iter().take(BATCH).map(Arc::clone).collect()
    }

    /// Removes the first events of the buffer.
    fn remove(&self, events: usize) {
        let mut state = self.state();
        state.events.drain(..events);
        state.written += events as u64;
        drop(state);
        self.changed.notify_waiters();
    }
}

/// The task that writes the events, until there are none.
struct Running {
    queue: Arc<Queue>,
    is_done: bool,
}

impl Running {
    async fn write_all(mut self) {
        let queue = Arc::clone(&self.queue);
        let mut destination = queue.destination.lock().await;
        let mut pause = PAUSE;
        loop {
            let batch = queue.next_batch();
            if batch.is_empty() {
                self.is_done = true;
                return;
            }
            let written = AssertUnwindSafe(destination.write(&batch)).catch_unwind().await;
            match written.unwrap_or_else(|_| Err("the destination panicked".into())) {
                Ok(()) => {
                    pause = PAUSE;
                    queue.remove(batch.len());
                    if let Some(over) = queue.outage.worked() {
                        let (after_ms, failures) = (over.after_ms, over.failures);
                        tracing::info!(sink = queue.name, after_ms, failures, "audit events are written again");
                    }
                }
                Err(error) => {
                    if let Some(unsaid) = queue.outage.failed() {
                        tracing::warn!(sink = queue.name, %error, unsaid, "audit events cannot be written");
                    }
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The runtime shuts down. The next event that has one begins a new task.
        if !self.is_done {
            self.queue.state().is_running = false;
        }
    }
}
