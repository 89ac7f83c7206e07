//! A bounded buffer in front of a destination that may be slow.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::destination::Destination;
use super::event::Event;
use super::queue::{Queue, Room};
use crate::ConfigError;

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
    queue: Arc<Queue>,
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

/// How many events are in the buffer at most by default.
const CAPACITY: usize = 10_000;

/// The name of the buffer in errors.
const BUFFERED: &str = "Buffered";

impl Buffered {
    /// Creates a buffer in front of a destination.
    pub fn new(destination: impl Destination) -> Self {
        Self { queue: Arc::new(Queue::new(Box::new(destination))), capacity: CAPACITY, wait: None }
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
        let state = self.queue.state();
        BufferStats { written: state.written, lost: self.queue.losses.get(), pending: state.events.len() }
    }

    /// Waits until all events that are in the buffer now are written. It waits as long as the destination fails: put a timeout around it.
    pub async fn flush(&self) {
        let last = {
            let state = self.queue.state();
            state.written + state.events.len() as u64
        };
        self.queue.run();
        self.queue.until(|state| (state.written >= last).then_some(())).await;
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_positive(BUFFERED, "with_capacity", self.capacity)?;
        self.wait.map_or(Ok(()), |wait| ConfigError::check_timeout(BUFFERED, "with_wait", wait))
    }

    /// Checks the storage at the start of the server.
    pub(super) async fn check_storage(&self) -> Result<(), ConfigError> {
        self.queue.losses.announce();
        // If a task writes already, the storage is in use.
        match self.queue.destination.try_lock() {
            Ok(mut destination) => destination.check_storage().await,
            Err(_) => Ok(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.queue.name
    }

    /// Says whether a call has to wait for room.
    pub(super) fn must_wait(&self) -> bool {
        self.wait.is_some() && !self.queue.state().has_room(self.capacity)
    }

    /// Waits for room, and keeps it for the event of this call.
    pub(super) async fn reserve(&self) -> Option<Room> {
        let reserved = self.queue.reserve(self.capacity);
        timeout(self.wait?, reserved).await.ok()
    }

    /// Takes an event, if there is room for it.
    pub(super) fn record(&self, event: &Arc<Event>, room: Option<Room>) {
        if self.queue.push(event, room, self.capacity) {
            self.queue.run();
        } else {
            self.queue.losses.add();
        }
    }
}

impl fmt::Debug for Buffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered")
            .field("name", &self.queue.name)
            .field("capacity", &self.capacity)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
