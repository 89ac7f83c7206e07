//! In whose share of a bounded thing a call is, as a number that is only good in this process.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use turbomcp_core::RequestContext;

use super::Identity;

/// Whose shares are told apart by a secret of the process, so that nobody can choose to be in another's.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Identity {
    /// Returns the share of the caller. Callers whom nobody knows have one for each connection. Allocates nothing.
    pub(crate) fn share_of(&self, ctx: &RequestContext) -> u64 {
        thread_local! {
            static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let caller = self.caller(ctx);
        KEY.with_borrow_mut(|key| {
            key.clear();
            caller.encode(key);
            if ctx.subject().is_none()
                && let Some(session) = ctx.session_id()
            {
                key.extend_from_slice(session.as_bytes());
            }
            share_of(key)
        })
    }
}

/// Returns the share of whatever has this name.
pub(crate) fn share_of(name: &[u8]) -> u64 {
    HASHER.hash_one(name)
}
