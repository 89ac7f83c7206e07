//! The notifications of shared work to each caller who waits for it.
//!
//! The work only puts a notification into a queue. Each caller sends its own, so that a slow connection delays no other caller.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::progress::Progress;

/// The most notifications that wait for a slow connection. Beyond it, the oldest are dropped.
const MAX_NOTES: usize = 128;

/// A notification, by its parameters.
#[derive(Debug, Clone)]
pub(super) enum Note {
    Progress(Value),
    Log(Value),
}

/// A caller who waits for the work and receives its notifications.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// `None` where the client wants no progress.
    progress: Option<Progress>,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    notes: VecDeque<Note>,
    is_closed: bool,
}

impl Listener {
    pub(super) fn new(progress: Option<Progress>) -> Self {
        Self { progress, ..Self::default() }
    }

    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Returns the next note, or `None` when the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Note> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(note) = queue.notes.pop_front() {
                    return Some(note);
                }
                if queue.is_closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    pub(super) fn open(&self) {
        self.queue().is_closed = false;
    }

    /// Accepts no more notes. Those in the queue can still be taken.
    pub(super) fn close(&self) {
        self.queue().is_closed = true;
        self.news.notify_one();
    }

    fn put(&self, note: impl FnOnce() -> Option<Note>) {
        let mut queue = self.queue();
        if queue.is_closed {
            return;
        }
        if let Some(note) = note() {
            if queue.notes.len() >= MAX_NOTES {
                queue.notes.pop_front();
            }
            queue.notes.push_back(note);
            drop(queue);
            self.news.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription of a listener to one piece of work.
#[derive(Debug)]
pub(super) struct Subscription {
    listener: Weak<Listener>,
    /// The progress that the work continues from.
    base: f64,
    gets_all: bool,
}

impl Subscription {
    pub(super) fn new(listener: &Arc<Listener>, gets_all: bool) -> Self {
        let base = listener.progress.as_ref().map_or(0.0, Progress::reached);
        Self { listener: Arc::downgrade(listener), base, gets_all }
    }

    /// Subscribes the same listener to work that begins now. It gets everything only if the starter `is_same`.
    pub(super) fn renewed(&self, is_same: bool) -> Self {
        match self.listener.upgrade() {
            Some(listener) => Self::new(&listener, is_same && self.gets_all),
            None => Self { listener: Weak::new(), base: 0.0, gets_all: false },
        }
    }

    /// Delivers a note. Returns false if the listener no longer waits.
    pub(super) fn deliver(&self, note: &Note) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        match note {
            Note::Progress(params) => {
                if let Some(progress) = &listener.progress {
                    let params = || if self.gets_all { params.clone() } else { numbers(params) };
                    listener.put(|| progress.raise(self.base, params()).map(Note::Progress));
                }
            }
            Note::Log(_) if self.gets_all => listener.put(|| Some(note.clone())),
            Note::Log(_) => {}
        }
        true
    }
}

/// Returns the numbers of a progress, without its message, which may be about the starter.
fn numbers(params: &Value) -> Value {
    let mut numbers = json!({ "progress": params["progress"] });
    if let Some(total) = params.get("total") {
        numbers["total"] = total.clone();
    }
    numbers
}
