//! The number of connections of a pool that transactions may hold.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The purpose that a connection is set apart for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Short statements: those of sessions, and of claims that must be renewed.
    Statements,
    /// Transactions inside of transactions.
    Nested,
}

/// A limit on the number of transactions that hold a connection at the same time.
#[derive(Debug)]
pub(super) struct Places {
    connections: usize,
    free: Arc<Semaphore>,
    shares: Mutex<Shares>,
}

#[derive(Debug)]
struct Shares {
    /// The number of users of a connection for each [`What`].
    apart: [usize; 2],
    places: usize,
    /// The number of taken places that are removed when they become free.
    excess: usize,
}

impl Places {
    pub(super) fn new(connections: u32) -> Arc<Self> {
        let connections = (connections as usize).clamp(1, Semaphore::MAX_PERMITS);
        let shares = Shares { apart: [0; 2], places: connections, excess: 0 };
        Arc::new(Self { connections, free: Arc::new(Semaphore::new(connections)), shares: Mutex::new(shares) })
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_apart(self: &Arc<Self>, what: What) -> Apart {
        self.change(|apart| apart[what as usize] += 1);
        Apart { places: Arc::clone(self), what }
    }

    fn change(&self, change: impl FnOnce(&mut [usize; 2])) {
        let mut shares = self.shares();
        change(&mut shares.apart);
        let apart = shares.apart.iter().filter(|users| **users > 0).count();
        let places = self.connections.saturating_sub(apart).max(1);
        if places < shares.places {
            shares.excess += shares.places - places;
            shares.excess -= self.free.forget_permits(shares.excess);
        } else {
            let more = places - shares.places;
            let stay = shares.excess.min(more);
            shares.excess -= stay;
            self.free.add_permits(more - stay);
        }
        shares.places = places;
    }

    /// Says whether a connection can be kept for statements while others still get one.
    pub(super) fn has_room_to_keep(&self) -> bool {
        self.connections > 1 + usize::from(self.shares().apart[What::Nested as usize] > 0)
    }

    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Place { permit, places: Arc::clone(self) }
    }
}

/// Keeps a connection set apart.
#[derive(Debug)]
pub(crate) struct Apart {
    places: Arc<Places>,
    what: What,
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.places.change(|apart| apart[self.what as usize] -= 1);
    }
}

/// The right of a transaction to hold a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Present as long as the semaphore exists.
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = self.places.shares();
        if shares.excess > 0 {
            shares.excess -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}
