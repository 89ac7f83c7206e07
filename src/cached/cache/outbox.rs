//! The outbox of invalidations that the second level has not received yet.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::cached::first_level::invalidation_key::InvalidationKey;

/// How many keys are kept and sent at most.
const MAX_KEYS: usize = 16_384;

/// The keys that were invalidated in this process, by number. Until the level has received them, nothing that they invalidate is read
/// from it.
///
/// It grows while the level cannot be reached. Too many keys are replaced by one number, which invalidates everything.
#[derive(Default)]
pub(in crate::cached) struct Outbox {
    state: Mutex<State>,
    is_waiting: Notify,
    has_delivered: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeSet<u64>,
    sending: BTreeSet<u64>,
    /// How many notes there were; how many of them were taken to be sent; and how many have arrived.
    noted: u64,
    taken: u64,
    delivered: u64,
}

impl Outbox {
    /// Notes keys. They are sent when [`wake`](Self::wake) was called.
    pub(in crate::cached) fn note(&self, keys: impl IntoIterator<Item = u64>) {
        let mut state = self.lock();
        state.waiting.extend(keys);
        if state.waiting.len() > MAX_KEYS {
            state.waiting = BTreeSet::from([InvalidationKey::ALL.number()]);
        }
        state.noted += 1;
    }

    pub(in crate::cached) fn wake(&self) {
        self.is_waiting.notify_one();
    }

    /// Returns when there may be keys to send.
    pub(in crate::cached) async fn waiting(&self) {
        self.is_waiting.notified().await;
    }

    /// Takes all keys to send, with those that were taken before and have not arrived.
    pub(in crate::cached) fn take(&self) -> Vec<u64> {
        let mut state = self.lock();
        let State { waiting, sending, noted, taken, .. } = &mut *state;
        sending.append(waiting);
        if sending.len() > MAX_KEYS {
            *sending = BTreeSet::from([InvalidationKey::ALL.number()]);
        }
        *taken = *noted;
        sending.iter().copied().collect()
    }

    /// Notes that the keys that were taken last have arrived.
    pub(in crate::cached) fn has_arrived(&self) {
        let mut state = self.lock();
        state.sending.clear();
        state.delivered = state.taken;
        drop(state);
        self.has_delivered.notify_waiters();
    }

    pub(in crate::cached) fn has_any(&self, keys: &[u64]) -> bool {
        let state = self.lock();
        keys.iter().any(|key| state.waiting.contains(key) || state.sending.contains(key))
    }

    pub(in crate::cached) fn len(&self) -> usize {
        let state = self.lock();
        state.waiting.union(&state.sending).count()
    }

    /// Returns when all keys noted so far have arrived, or when it `is_futile` to wait for that.
    pub(in crate::cached) async fn delivered(&self, is_futile: impl Fn() -> bool) {
        let noted = self.lock().noted;
        loop {
            let mut has_delivered = pin!(self.has_delivered.notified());
            has_delivered.as_mut().enable();
            if self.lock().delivered >= noted || is_futile() {
                return;
            }
            has_delivered.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
