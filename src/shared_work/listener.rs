//! What one who waits for shared work is told of it meanwhile.
//!
//! The work only puts it in a queue. Each who waits sends it on, so that a slow connection holds up nobody else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::progress::Progress;

/// How many wait for a slow connection at most. Then the oldest are lost.
const MAX_NOTES: usize = 128;

/// A notification, by its parameters.
#[derive(Debug, Clone)]
pub(super) enum Note {
    Progress(Value),
    Log(Value),
}

/// One who waits, and hears of the work.
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

    /// Takes no more notes. Those that are there can still be had.
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

/// How a listener hears of one piece of work.
#[derive(Debug)]
pub(super) struct Ear {
    listener: Weak<Listener>,
    /// The progress from which the work goes on.
    base: f64,
    hears_all: bool,
}

impl Ear {
    pub(super) fn new(listener: &Arc<Listener>, hears_all: bool) -> Self {
        let base = listener.progress.as_ref().map_or(0.0, Progress::reached);
        Self { listener: Arc::downgrade(listener), base, hears_all }
    }

    /// The same listener's for work that begins now, of everything only if the starter `is_same`.
    pub(super) fn again(&self, is_same: bool) -> Self {
        match self.listener.upgrade() {
            Some(listener) => Self::new(&listener, is_same && self.hears_all),
            None => Self { listener: Weak::new(), base: 0.0, hears_all: false },
        }
    }

    /// Returns false when the listener has gone.
    pub(super) fn hear(&self, note: &Note) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        match note {
            Note::Progress(params) => {
                if let Some(progress) = &listener.progress {
                    let params = || if self.hears_all { params.clone() } else { numbers(params) };
                    listener.put(|| progress.raise(self.base, params()).map(Note::Progress));
                }
            }
            Note::Log(_) if self.hears_all => listener.put(|| Some(note.clone())),
            Note::Log(_) => {}
        }
        true
    }
}

/// What anybody may know of progress: its message may be about the starter.
fn numbers(params: &Value) -> Value {
    let mut numbers = json!({ "progress": params["progress"] });
    if let Some(total) = params.get("total") {
        numbers["total"] = total.clone();
    }
    numbers
}
