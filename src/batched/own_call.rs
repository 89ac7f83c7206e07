//! How a caller gets back a call that is theirs alone.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::Notify;
use turbomcp_core::RequestContext;

use super::plan::Answer;
use crate::shared_work::{Caller, Waits, Work};

/// What a caller does with a call that is theirs alone.
pub(super) enum Own {
    /// Goes on with it, since it has asked the caller's client.
    GoesOn(BoxFuture<'static, Answer>),
    /// Makes it, since it was made for another one, whose client it has asked.
    Call,
}

/// Where a caller gets it.
#[derive(Default)]
pub(super) struct OwnCall {
    own: Mutex<Option<Own>>,
    given: Notify,
}

impl OwnCall {
    pub(super) fn give(&self, own: Own) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        self.given.notify_one();
    }

    pub(super) fn take(&self) -> Option<Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A caller who waits for the answer of a batch, or until there is something to take.
pub(super) struct OrOwn<'a> {
    pub(super) caller: &'a Caller<'a>,
    pub(super) own: &'a OwnCall,
}

impl Waits for OrOwn<'_> {
    fn is_cancelled(&self) -> bool {
        self.caller.is_cancelled()
    }

    fn call(&self) -> Option<&RequestContext> {
        self.caller.call()
    }

    fn join(&self, work: &Work) {
        self.caller.join(work);
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
