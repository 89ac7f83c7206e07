//! Events that wait for a destination that may be slow: in bounded memory, and written by one background task.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::destination::Destination;
use super::event::Event;
use super::losses::Losses;
use crate::ConfigError;
use crate::telemetry::Outage;

/// Keeps events in memory until a [`Destination`] has taken them. Clones share the events and the counters.
///
/// A background task writes them, after the call, in the order in which the calls ended. A batch that cannot be written is tried again
/// until it can, with pauses of 0.1 to 5 seconds. So each event is written at least once, with the same id each time.
///
/// If the buffer is full, a new event is lost, and counted: see [`stats`](Self::stats). With [`with_wait`](Self::with_wait), the call
/// waits for room first.
///
/// The events that are in the buffer when the process ends are lost. The layer waits for the buffer when the server stops, for at most 10
/// seconds. Where nothing tells the layer that the server stops, call [`flush`](Self::flush).
///
/// # Defaults
///
/// - events in the buffer: 10,000
/// - wait for room: none
#[derive(Clone)]
#[must_use = "a buffer does nothing until it is given to a layer"]
pub struct Buffered {
    inner: Arc<Inner>,
    capacity: usize,
    wait: Option<Duration>,
}

/// What happened to the events of a [`Buffered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BufferStats {
    /// Events that the destination has taken.
    pub written: u64,
    /// Events that were lost, because the buffer was full.
    pub lost: u64,
    /// Events in the buffer.
    pub pending: usize,
}

struct Inner {
    name: String,
    state: Mutex<State>,
    /// Notified when events have left the buffer, or a place in it is free again.
    changed: Notify,
    destination: tokio::sync::Mutex<Box<dyn Destination>>,
    losses: Losses,
    outage: Outage,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    /// The places that are kept for calls that have waited for them.
    reserved: usize,
    /// The number of events that have left the buffer: the destination has taken them.
    written: u64,
    /// Whether a task writes the events.
    is_running: bool,
}

/// How many events are in the buffer at most by default.
const CAPACITY: usize = 10_000;

/// How many events are written together.
const BATCH: usize = 100;

/// The pause after a failure. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The name of the buffer in errors.
const BUFFERED: &str = "Buffered";

impl Buffered {
    /// Creates a buffer in front of a destination.
    pub fn new(destination: impl Destination) -> Self {
        let name = destination.name().to_owned();
        let inner = Inner {
            losses: Losses::new(&name),
            name,
            state: Mutex::default(),
            changed: Notify::new(),
            destination: tokio::sync::Mutex::new(Box::new(destination)),
            outage: Outage::default(),
        };
        Self { inner: Arc::new(inner), capacity: CAPACITY, wait: None }
    }

    /// Sets how many events may be in the buffer. Default: 10,000.
    pub fn with_capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// Makes a call wait for room before it returns, if the buffer is full, for at most this long. Then its event is lost.
    ///
    /// A caller who has left waits for nothing. Default: no call waits.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        let state = self.inner.state();
        BufferStats { written: state.written, lost: self.inner.losses.get(), pending: state.events.len() }
    }

    /// Waits until all events that are in the buffer now are written. It waits as long as the destination fails: put a timeout around it.
    pub async fn flush(&self) {
        let last = {
            let state = self.inner.state();
            state.written + state.events.len() as u64
        };
        self.inner.run();
        self.inner.until(|state| (state.written >= last).then_some(())).await;
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_positive(BUFFERED, "with_capacity", self.capacity)?;
        self.wait.map_or(Ok(()), |wait| ConfigError::check_timeout(BUFFERED, "with_wait", wait))
    }

    /// Checks the storage at the start of the server.
    pub(super) async fn check_storage(&self) -> Result<(), ConfigError> {
        self.inner.losses.announce();
        // If a task writes already, the storage is in use.
        match self.inner.destination.try_lock() {
            Ok(mut destination) => destination.check_storage().await,
            Err(_) => Ok(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.inner.name
    }

    /// Says whether a call has to wait for room.
    pub(super) fn must_wait(&self) -> bool {
        self.wait.is_some() && !self.inner.state().has_room(self.capacity)
    }

    /// Waits for room, and keeps it for the event of this call.
    pub(super) async fn reserve(&self) -> Option<Room> {
        let wait = self.wait?;
        let reserved = self.inner.until(|state| {
            let has_room = state.has_room(self.capacity);
            state.reserved += usize::from(has_room);
            has_room.then_some(())
        });
        timeout(wait, reserved).await.ok()?;
        Some(Room(Some(Arc::clone(&self.inner))))
    }

    /// Takes an event, if there is room for it.
    pub(super) fn record(&self, event: &Arc<Event>, room: Option<Room>) {
        let mut state = self.inner.state();
        // Under one lock, so that no other event gets the room that was kept for this one.
        if room.and_then(|mut room| room.0.take()).is_some() {
            state.reserved -= 1;
        }
        let has_room = state.has_room(self.capacity);
        if has_room {
            state.events.push_back(Arc::clone(event));
        }
        drop(state);
        if has_room {
            self.inner.run();
        } else {
            self.inner.losses.add();
        }
    }
}

/// A place in the buffer that is kept for one event.
pub(super) struct Room(Option<Arc<Inner>>);

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            inner.state().reserved -= 1;
            inner.changed.notify_waiters();
        }
    }
}

impl State {
    fn has_room(&self, capacity: usize) -> bool {
        self.events.len() + self.reserved < capacity
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state gives a value.
    async fn until<T>(&self, mut value: impl FnMut(&mut State) -> Option<T>) -> T {
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

    /// Makes sure that a task writes the events. Without a runtime, they wait for the next event that has one.
    fn run(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.state();
        if !state.is_running && !state.events.is_empty() {
            state.is_running = true;
            runtime.spawn(Running { inner: Arc::clone(self), is_done: false }.write_all());
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
    inner: Arc<Inner>,
    is_done: bool,
}

impl Running {
    async fn write_all(mut self) {
        let inner = Arc::clone(&self.inner);
        let mut destination = inner.destination.lock().await;
        let mut pause = PAUSE;
        loop {
            let batch = inner.next_batch();
            if batch.is_empty() {
                self.is_done = true;
                return;
            }
            let written = AssertUnwindSafe(destination.write(&batch)).catch_unwind().await;
            match written.unwrap_or_else(|_| Err("the destination panicked".into())) {
                Ok(()) => {
                    pause = PAUSE;
                    inner.remove(batch.len());
                    if let Some(over) = inner.outage.worked() {
                        let (after_ms, failures) = (over.after_ms, over.failures);
                        tracing::info!(sink = inner.name, after_ms, failures, "audit events are written again");
                    }
                }
                Err(error) => {
                    if let Some(unsaid) = inner.outage.failed() {
                        tracing::warn!(sink = inner.name, %error, unsaid, "audit events cannot be written");
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
            self.inner.state().is_running = false;
        }
    }
}

impl fmt::Debug for Buffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered")
            .field("name", &self.inner.name)
            .field("capacity", &self.capacity)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
