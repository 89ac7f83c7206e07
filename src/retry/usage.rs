//! How much of a budget each caller has used recently.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use turbomcp_core::RequestContext;

use crate::Identity;

/// The caller of a call that may be tried again.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) identity: &'a Identity,
    pub(super) ctx: &'a RequestContext,
}

/// Tokens that each caller has used beyond what its calls have paid in, by the caller's share.
#[derive(Default)]
pub(super) struct Usage {
    callers: Mutex<HashMap<u64, i64>>,
    /// Usually false, and then nothing is locked.
    has_any: AtomicBool,
}

/// The number of callers whose usage is kept. Beyond it, almost every caller fails, and all usage is forgotten.
const MAX_CALLERS: usize = 10_000;

impl Usage {
    /// Charges the caller for `tokens`, which `take` takes from the bucket, unless the caller has used as many as are `left` there.
    pub(super) fn charge(&self, caller: Caller<'_>, tokens: i64, left: i64, take: impl FnOnce() -> bool) -> bool {
        let share = caller.share();
        let mut callers = self.lock();
        let used = callers.get(&share).copied().unwrap_or_default();
        if used >= left || !take() {
            return false;
        }
        if callers.len() >= MAX_CALLERS {
            callers.clear();
        }
        callers.insert(share, used.saturating_add(tokens));
        self.has_any.store(true, Ordering::Relaxed);
        true
    }

    /// Credits the caller with what one of its calls pays in.
    pub(super) fn credit(&self, caller: Caller<'_>, tokens: i64) {
        if !self.has_any.load(Ordering::Relaxed) {
            return;
        }
        let share = caller.share();
        let mut callers = self.lock();
        if let Some(used) = callers.get_mut(&share) {
            *used -= tokens;
            if *used <= 0 {
                callers.remove(&share);
                self.has_any.store(!callers.is_empty(), Ordering::Relaxed);
            }
        }
    }

    /// Forgets all usage: the bucket is full again.
    pub(super) fn reset(&self) {
        if self.has_any.load(Ordering::Relaxed) {
            self.lock().clear();
            self.has_any.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, i64>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller<'_> {
    fn share(self) -> u64 {
        self.identity.share_of(self.ctx)
    }
}
