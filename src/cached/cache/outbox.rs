//! What a second level has to be told, and does not know yet.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::cached::first_level::invalidation_key::InvalidationKey;

/// How many keys are told at most, and in one step.
const MAX_KEYS: usize = 16_384;

/// What is invalidated here, by number. Until the level knows of it, nothing that it invalidates is read from there.
///
/// It grows while the level cannot be told. Too much of it comes down to one number, which invalidates everything.
#[derive(Default)]
pub(in crate::cached) struct Pending {
    state: Mutex<State>,
    is_waiting: Notify,
    is_told: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeSet<u64>,
    sending: BTreeSet<u64>,
    /// How many notes there were; how many of them were taken to be sent; and how many have arrived.
    noted: u64,
    taken: u64,
    told: u64,
}

impl Pending {
    /// Notes what is to be told. It is told from when [`wake`](Self::wake) is called.
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

    /// Returns when something may have to be told.
    pub(in crate::cached) async fn waiting(&self) {
        self.is_waiting.notified().await;
    }

    /// Takes all there is to be told, with what was taken before and has not arrived.
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

    /// What was taken has arrived.
    pub(in crate::cached) fn has_arrived(&self) {
        let mut state = self.lock();
        state.sending.clear();
        state.told = state.taken;
        drop(state);
        self.is_told.notify_waiters();
    }

    pub(in crate::cached) fn has_any(&self, keys: &[u64]) -> bool {
        let state = self.lock();
        keys.iter().any(|key| state.waiting.contains(key) || state.sending.contains(key))
    }

    pub(in crate::cached) fn len(&self) -> usize {
        let state = self.lock();
        state.waiting.union(&state.sending).count()
    }

    /// Returns when all that is noted by now has arrived, or `is_futile` to wait for that.
    pub(in crate::cached) async fn told(&self, is_futile: impl Fn() -> bool) {
        let noted = self.lock().noted;
        loop {
            let mut is_told = pin!(self.is_told.notified());
            is_told.as_mut().enable();
            if self.lock().told >= noted || is_futile() {
                return;
            }
            is_told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
