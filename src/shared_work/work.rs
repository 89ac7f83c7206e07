//! The state of work that several callers may wait for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use turbomcp_core::Cancellable;

use super::listener::{Listener, Note, Subscription};
use crate::scope::{self, Scoped};

/// Work that several callers may wait for. It runs with the identity of one of them, the starter.
#[derive(Debug, Default)]
pub(crate) struct Work {
    is_given_up: AtomicBool,
    has_no_starter: AtomicBool,
    has_asked: AtomicBool,
    asking: Notify,
    has_opened_session: AtomicBool,
    has_reported: AtomicBool,
    has_ended: AtomicBool,
    oldest: Oldest,
    /// The starter, where the callers who wait may be different principals.
    starter: OnceLock<Vec<u8>>,
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Work {
    /// Cancels the work for all callers: the last one has cancelled, or the work took too long.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// Notes that the starter does not wait, or no longer waits.
    pub(crate) fn leave(&self) {
        self.has_no_starter.store(true, Ordering::Release);
    }

    pub(crate) fn has_no_starter(&self) -> bool {
        self.has_no_starter.load(Ordering::Acquire)
    }

    /// Notes that the result depends on the starter's client, so that no other caller may get it.
    pub(crate) fn ask(&self) {
        self.has_asked.store(true, Ordering::Release);
        self.asking.notify_one();
    }

    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Acquire)
    }

    /// Returns as soon as a client is asked. For one waiting task.
    pub(crate) async fn asked(&self) {
        while !self.has_asked() {
            self.asking.notified().await;
        }
    }

    pub(crate) fn has_opened_session(&self) -> bool {
        self.has_opened_session.load(Ordering::Acquire)
    }

    /// Returns the smallest stamp of the answers that the work got from caches further in, and that were loaded for an earlier call.
    pub(crate) fn oldest_answer(&self) -> Option<u64> {
        Some(self.oldest.0.load(Ordering::Acquire)).filter(|stamp| *stamp != u64::MAX)
    }

    /// Notes that the result is available: later messages are for the starter only.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn has_reported(&self) -> bool {
        self.has_reported.load(Ordering::Acquire)
    }

    /// Notes the starter. Without it, all callers who wait are the same principal.
    pub(super) fn begin_as(&self, starter: Vec<u8>) {
        // Set once: there is one starter.
        let _ = self.starter.set(starter);
    }

    pub(super) fn is_begun_by(&self, principal: &[u8]) -> bool {
        self.starter.get().is_some_and(|starter| starter == principal)
    }

    /// Notifies `listener` of the work from now on: of everything, or of numbers only.
    pub(super) fn listen(&self, listener: &Arc<Listener>, gets_all: bool) {
        self.subscriptions().push(Subscription::new(listener, gets_all));
    }

    /// Begins again for all callers who wait for `all`: one of them makes the call for the others.
    pub(crate) fn begin_for(&self, all: &[Arc<Self>]) {
        let renewed = |work: &Arc<Self>| {
            let is_same = self.starter.get() == work.starter.get();
            work.subscriptions().iter().map(|subscription| subscription.renewed(is_same)).collect::<Vec<_>>()
        };
        let renewed = all.iter().flat_map(renewed).collect();
        *self.subscriptions() = renewed;
    }

    pub(super) fn tell(&self, note: &Note) {
        if matches!(note, Note::Progress(_)) {
            self.has_reported.store(true, Ordering::Release);
        }
        self.subscriptions().retain(|subscription| subscription.deliver(note));
    }

    fn subscriptions(&self) -> MutexGuard<'_, Vec<Subscription>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scoped for Work {}

/// A stamp that only gets smaller.
#[derive(Debug)]
struct Oldest(AtomicU64);

impl Default for Oldest {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

/// Cancelled when no caller waits any more, or when the work is the starter's alone and the starter has cancelled.
impl Cancellable for Work {
    fn is_cancelled(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire) || (self.has_asked() && self.has_no_starter())
    }
}

/// Notes in all work around the call that it depends on the session.
pub(crate) fn session_opened() {
    scope::all::<Work>().for_each(|work| work.has_opened_session.store(true, Ordering::Release));
}

/// Notes in all work around the call that it depends on a client.
pub(crate) fn client_asked() {
    scope::all::<Work>().for_each(|work| work.ask());
}

/// Notes in all work around the call that its answer was loaded for an earlier call, with this stamp.
pub(crate) fn answered_from_cache(stamp: u64) {
    for work in scope::all::<Work>() {
        work.oldest.0.fetch_min(stamp, Ordering::AcqRel);
    }
}
