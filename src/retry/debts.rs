//! How much of a budget each caller has used of late.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use turbomcp_core::RequestContext;

use crate::Identity;

/// Whose call is to be tried again.
#[derive(Clone, Copy)]
pub(super) struct Borrower<'a> {
    pub(super) identity: &'a Identity,
    pub(super) ctx: &'a RequestContext,
}

/// The callers who have used more than their calls have paid for, by their share.
#[derive(Default)]
pub(super) struct Debts {
    callers: Mutex<HashMap<u64, i64>>,
    /// Usually there are none, and nothing is locked.
    has_any: AtomicBool,
}

/// How many callers are known. More only come where almost everybody fails, and then all of them begin anew.
const MAX_CALLERS: usize = 10_000;

impl Debts {
    /// Lends `tokens`, which `take` takes, unless the caller has used more than there is.
    pub(super) fn lend(&self, borrower: Borrower<'_>, tokens: i64, left: i64, take: impl FnOnce() -> bool) -> bool {
        let caller = borrower.share();
        let mut callers = self.lock();
        let used = callers.get(&caller).copied().unwrap_or_default();
        if used >= left || !take() {
            return false;
        }
        if callers.len() >= MAX_CALLERS {
            callers.clear();
        }
        callers.insert(caller, used.saturating_add(tokens));
        self.has_any.store(true, Ordering::Relaxed);
        true
    }

    /// Notes what a call of the caller pays for.
    pub(super) fn repay(&self, borrower: Borrower<'_>, tokens: i64) {
        if !self.has_any.load(Ordering::Relaxed) {
            return;
        }
        let caller = borrower.share();
        let mut callers = self.lock();
        if let Some(used) = callers.get_mut(&caller) {
            *used -= tokens;
            if *used <= 0 {
                callers.remove(&caller);
                self.has_any.store(!callers.is_empty(), Ordering::Relaxed);
            }
        }
    }

    /// Forgets what was used: nothing of it is missing any more.
    pub(super) fn forgive(&self) {
        if self.has_any.load(Ordering::Relaxed) {
            self.lock().clear();
            self.has_any.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, i64>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Borrower<'_> {
    fn share(self) -> u64 {
        self.identity.share_of(self.ctx)
    }
}
