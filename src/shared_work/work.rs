//! What is known of work that several callers may wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use turbomcp_core::Cancellable;

use super::listener::{Ear, Listener, Note};
use crate::scope::{self, Scoped};

/// Work that several callers may wait for. It is made in the name of one of them, the starter.
#[derive(Debug, Default)]
pub(crate) struct Work {
    is_given_up: AtomicBool,
    has_no_starter: AtomicBool,
    has_asked: AtomicBool,
    asking: Notify,
    has_opened_session: AtomicBool,
    has_reported: AtomicBool,
    has_ended: AtomicBool,
    /// Who the starter is, where those who wait need not be the same principal.
    starter: OnceLock<Vec<u8>>,
    ears: Mutex<Vec<Ear>>,
}

impl Work {
    /// Ends the work for all: the last one who waited for it has left, or it took too long.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// Says that the starter does not wait for it, or does not any more.
    pub(crate) fn leave(&self) {
        self.has_no_starter.store(true, Ordering::Release);
    }

    pub(crate) fn has_no_starter(&self) -> bool {
        self.has_no_starter.load(Ordering::Acquire)
    }

    /// Says that what comes of it depends on the starter's client, so that it is nobody else's.
    pub(crate) fn ask(&self) {
        self.has_asked.store(true, Ordering::Release);
        self.asking.notify_one();
    }

    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Acquire)
    }

    /// Returns as soon as a client is asked. For one who waits.
    pub(crate) async fn asked(&self) {
        while !self.has_asked() {
            self.asking.notified().await;
        }
    }

    pub(crate) fn has_opened_session(&self) -> bool {
        self.has_opened_session.load(Ordering::Acquire)
    }

    /// Says that the result is there: what is sent from now on is the starter's own.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn has_reported(&self) -> bool {
        self.has_reported.load(Ordering::Acquire)
    }

    /// Notes who the starter is. Without it, all who wait are the same principal.
    pub(super) fn begin_as(&self, starter: Vec<u8>) {
        // Set once: there is one starter.
        let _ = self.starter.set(starter);
    }

    pub(super) fn is_begun_by(&self, principal: &[u8]) -> bool {
        self.starter.get().is_some_and(|starter| starter == principal)
    }

    /// Tells `listener` of the work from now on: of everything, or of numbers only.
    pub(super) fn listen(&self, listener: &Arc<Listener>, hears_all: bool) {
        self.ears().push(Ear::new(listener, hears_all));
    }

    /// Begins anew for all who wait: one of them makes the call for the others.
    pub(crate) fn begin_for(&self, all: &[Arc<Self>]) {
        let ears = |work: &Arc<Self>| {
            let is_same = self.starter.get() == work.starter.get();
            work.ears().iter().map(|ear| ear.again(is_same)).collect::<Vec<_>>()
        };
        let ears = all.iter().flat_map(ears).collect();
        *self.ears() = ears;
    }

    pub(super) fn tell(&self, note: &Note) {
        if matches!(note, Note::Progress(_)) {
            self.has_reported.store(true, Ordering::Release);
        }
        self.ears().retain(|ear| ear.hear(note));
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Ear>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scoped for Work {}

/// As those who wait for it see it: nobody is left, or it is the starter's alone and the starter has left.
impl Cancellable for Work {
    fn is_cancelled(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire) || (self.has_asked() && self.has_no_starter())
    }
}

/// Tells all work around the call that it depends on its session.
pub(crate) fn session_opened() {
    scope::all::<Work>().for_each(|work| work.has_opened_session.store(true, Ordering::Release));
}

/// Tells all work around the call that it depends on a client.
pub(crate) fn client_asked() {
    scope::all::<Work>().for_each(|work| work.ask());
}
