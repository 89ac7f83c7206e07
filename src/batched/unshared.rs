//! How a caller gets a call that it no longer shares with others.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::Notify;
use turbomcp_core::RequestContext;

use super::plan::Answer;
use crate::shared_work::{Caller, Waits, Work};

/// How a caller continues with an unshared call.
pub(super) enum Unshared {
    /// Continues the call, since it has asked the caller's client.
    Resume(BoxFuture<'static, Answer>),
    /// Makes a call of its own, since the shared one has asked the client of another caller.
    CallAgain,
}

/// Hands an unshared call to its caller.
#[derive(Default)]
pub(super) struct UnsharedCell {
    own: Mutex<Option<Unshared>>,
    given: Notify,
}

impl UnsharedCell {
    pub(super) fn give(&self, own: Unshared) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        self.given.notify_one();
    }

    pub(super) fn take(&self) -> Option<Unshared> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A caller who waits for the answer of a batch, or for an unshared call.
pub(super) struct UntilUnshared<'a> {
    pub(super) caller: &'a Caller<'a>,
    pub(super) own: &'a UnsharedCell,
}

impl Waits for UntilUnshared<'_> {
    fn is_cancelled(&self) -> bool {
        self.caller.is_cancelled()
    }

    fn call(&self) -> Option<&RequestContext> {
        self.caller.call()
    }

    fn join(&self, work: &Work) {
        self.caller.join(work);
    }

    fn gets_from_cache(&self, stamp: u64) {
        self.caller.gets_from_cache(stamp);
    }

    async fn wait<T: Send>(&self, end: Pin<&mut (impl Future<Output = T> + Send)>) -> Option<T> {
        let end = async {
            match select(end, pin!(self.own.given.notified())).await {
                Either::Left((end, _)) => Some(end),
                Either::Right(((), _)) => None,
            }
        };
        self.caller.wait(pin!(end)).await.flatten()
    }
}
