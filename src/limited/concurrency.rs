//! How many calls run at the same time, and the queue of those that wait for a place.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use turbomcp_core::RequestContext;

use crate::cancellation::cancelled;
use crate::explain;

/// How many calls may run at the same time, for [`LimitedTool::with_concurrency`](super::LimitedTool::with_concurrency).
///
/// Without a [queue](Self::with_queue), a further call is refused at once. In a queue, calls get a place in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a limit does nothing until it is given to a layer"]
pub struct Concurrency {
    pub(super) max: usize,
    pub(super) queue: usize,
    pub(super) max_wait: Duration,
}

/// How long a call waits in a queue by default: about as long as a person waits for a page.
const MAX_WAIT: Duration = Duration::from_secs(10);

impl Concurrency {
    /// Allows as many calls to run at the same time, and refuses further ones.
    pub const fn new(max: usize) -> Self {
        Self { max, queue: 0, max_wait: MAX_WAIT }
    }

    /// Lets as many further calls wait for a place. Default: none.
    pub const fn with_queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    /// Refuses a call that has waited for so long. Default: 10 seconds.
    pub const fn with_max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Returns why the limit cannot work.
    pub(super) fn mistake(self) -> Option<&'static str> {
        match self {
            Self { max: 0, .. } => Some("no call would ever run: allow at least one"),
            Self { max, .. } if max > Semaphore::MAX_PERMITS => Some("is too large: leave the limit out"),
            Self { max_wait, queue: 1.., .. } if crate::clock::is_too_short(max_wait) => {
                Some("a call would never wait: set a `with_max_wait` of at least a millisecond, or no queue")
            }
            _ => None,
        }
    }

    pub(super) fn in_words(self) -> String {
        let Self { max, queue, max_wait } = self;
        if queue == 0 { format!("{max}") } else { format!("{max}, and {queue} wait up to {}", explain::time(max_wait)) }
    }
}

/// The places of one limit, and its queue.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Why a call got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken, and the queue is full.
    Busy,
    /// The call waited as long as it may.
    Waited,
    /// Its caller has cancelled it.
    Cancelled,
}

impl Places {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        Self { free: Arc::new(Semaphore::new(concurrency.max)), waiting: Arc::default() }
    }

    /// Says whether no call has a place or waits for one.
    pub(super) fn are_all_free(&self) -> bool {
        Arc::strong_count(&self.free) == 1
    }

    /// Takes a place, which is free again when the returned value is dropped.
    pub(super) async fn take(
        self,
        concurrency: Concurrency,
        ctx: &RequestContext,
    ) -> Result<OwnedSemaphorePermit, NoPlace> {
        // Whoever waits gets a place before it is free, so this overtakes nobody.
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = InQueue::enter(&self.waiting, concurrency.queue).ok_or(NoPlace::Busy)?;
        let place = pin!(timeout(concurrency.max_wait, self.free.acquire_owned()));
        match select(place, pin!(cancelled(ctx))).await {
            Either::Left((Ok(Ok(place)), _)) => Ok(place),
            Either::Left(_) => Err(NoPlace::Waited),
            Either::Right(_) => Err(NoPlace::Cancelled),
        }
    }
}

/// A call in a queue, until this is dropped.
struct InQueue<'a>(&'a AtomicUsize);

impl<'a> InQueue<'a> {
    fn enter(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let entered =
            waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| (calls < max).then_some(calls + 1));
        entered.is_ok().then(|| Self(waiting))
    }
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
