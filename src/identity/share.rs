//! The caller whose share of a bounded table a call uses, as a number that is valid only in this process.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use turbomcp_core::RequestContext;

use super::Identity;

/// Distinguishes the shares by a secret of the process, so that no caller can choose another's share.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Identity {
    /// Returns the share of the caller. Anonymous callers have one for each connection. Allocates nothing.
    #[cfg(any(feature = "batched", feature = "output", feature = "retry"))]
    pub(crate) fn share_of(&self, ctx: &RequestContext) -> u64 {
        self.number_of(ctx, ctx.session_id().filter(|_| ctx.subject().is_none()))
    }

    /// Returns a number for the caller. Anonymous callers have one number, as they are one caller. Allocates nothing.
    #[cfg(any(feature = "breaker", feature = "limited"))]
    pub(crate) fn principal_of(&self, ctx: &RequestContext) -> u64 {
        self.number_of(ctx, None)
    }

    fn number_of(&self, ctx: &RequestContext, connection: Option<&str>) -> u64 {
        thread_local! {
            static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let caller = self.caller(ctx);
        KEY.with_borrow_mut(|key| {
            key.clear();
            caller.encode(key);
            key.extend_from_slice(connection.unwrap_or_default().as_bytes());
            share_of(key)
        })
    }
}

/// Returns the share with this name.
pub(crate) fn share_of(name: &[u8]) -> u64 {
    HASHER.hash_one(name)
}
