//! How many calls run at the same time, and the queue of those that wait for a place.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use turbomcp_core::RequestContext;

use super::adaptive::{Adaptive, Bounds, Ended};
use crate::cancellation::cancelled;
use crate::explain;

/// How many calls may run at the same time, for [`LimitedTool::with_concurrency`](super::LimitedTool::with_concurrency).
///
/// Without a [queue](Self::with_queue), a further call is refused at once. In a queue, calls get a place in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a limit does nothing until it is given to a layer"]
pub struct Concurrency {
    pub(super) max: usize,
    queue: usize,
    max_wait: Duration,
    adaptive: Option<Bounds>,
    slow_after: Option<Duration>,
}

/// How long a call waits in a queue by default: about as long as a person waits for a page.
const MAX_WAIT: Duration = Duration::from_secs(10);

impl Concurrency {
    /// Allows as many calls to run at the same time, and refuses further ones.
    pub const fn new(max: usize) -> Self {
        Self { max, queue: 0, max_wait: MAX_WAIT, adaptive: None, slow_after: None }
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

    /// Moves the limit between these bounds, by how the calls end. It begins with the number of [`new`](Self::new). Default: it stays.
    ///
    /// The limit falls by a tenth when a call shows an overload: it fails [temporarily](crate::outcome::Failure::is_temporary), it is ended
    /// after the layer's timeout, or it is [slow](Self::with_slow_after). Calls that ran at the same time show the same overload, and count
    /// once. The limit rises by one when as many calls have succeeded as it allows, while at least half of the places were taken.
    ///
    /// This is additive increase and multiplicative decrease, as TCP does it for each round trip (D.-M. Chiu and R. Jain, 1989), with the
    /// factor and the rule for idle limits of `AIMDLimit` in Netflix' concurrency-limits.
    pub const fn with_adaptive_limit(mut self, min: usize, max: usize) -> Self {
        self.adaptive = Some(Bounds { min, max });
        self
    }

    /// Takes a call that succeeds, but runs longer, as a sign of overload, for the [adaptive limit](Self::with_adaptive_limit). Default: no time does.
    ///
    /// Set it well above the time that the slowest healthy call takes. A call that has sent its client a request is never slow.
    pub const fn with_slow_after(mut self, time: Duration) -> Self {
        self.slow_after = Some(time);
        self
    }

    /// Returns the setting of the layer that cannot work, and why.
    pub(super) fn mistake(self) -> Option<&'static str> {
        match self {
            Self { max: 0, .. } => Some("no call would ever run: allow at least one"),
            Self { max, .. } if max > Semaphore::MAX_PERMITS => Some("is too large: leave the limit out"),
            Self { max_wait, queue: 1.., .. } if crate::clock::is_too_short(max_wait) => {
                Some("a call would never wait: set a `with_max_wait` of at least a millisecond, or no queue")
            }
            Self { adaptive: None, slow_after: Some(_), .. } => {
                Some("`with_slow_after` has no effect without `with_adaptive_limit`: set both, or neither")
            }
            Self { slow_after: Some(Duration::ZERO), .. } => {
                Some("every call would be slow: set a `with_slow_after` above zero")
            }
            Self { adaptive: Some(Bounds { min: 0, .. }), .. } => {
                Some("no call would run at the lowest limit: set a `with_adaptive_limit` from at least one")
            }
            Self { adaptive: Some(Bounds { max, .. }), .. } if max > Semaphore::MAX_PERMITS => {
                Some("the highest limit is too large: set a lower `with_adaptive_limit`")
            }
            Self { max, adaptive: Some(bounds), .. } if !(bounds.min..=bounds.max).contains(&max) => {
                Some("the limit begins outside of `with_adaptive_limit`: choose a number between its bounds")
            }
            _ => None,
        }
    }

    /// The lowest limit that may hold.
    pub(super) fn least(self) -> usize {
        self.adaptive.map_or(self.max, |bounds| bounds.min)
    }

    /// The part of this limit that one of so many processes has. Its places are rounded down, so that all together stay below the limit.
    pub(super) fn share(self, replicas: u32) -> Self {
        let part = |of: usize| of / usize::try_from(replicas).unwrap_or(usize::MAX).max(1);
        let adaptive = self.adaptive.map(|bounds| Bounds { min: part(bounds.min), max: part(bounds.max) });
        let queue = self.queue.div_ceil(usize::try_from(replicas).unwrap_or(usize::MAX).max(1));
        Self { max: part(self.max), queue, adaptive, ..self }
    }

    pub(super) fn in_words(self) -> String {
        let Self { max, queue, max_wait, adaptive, slow_after } = self;
        let mut words = match adaptive {
            None => max.to_string(),
            Some(Bounds { min, max: most }) => format!("{max} at first, {min} to {most}"),
        };
        if let Some(time) = slow_after {
            words.push_str(&format!(", slow after {}", explain::time(time)));
        }
        if queue > 0 {
            words.push_str(&format!(", and {queue} wait up to {}", explain::time(max_wait)));
        }
        words
    }
}

/// How much of a concurrency is in use, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InUse {
    /// The calls that may run: for an adaptive limit, at the moment.
    pub limit: usize,
    /// The calls that run.
    pub running: usize,
    /// The calls that wait for a place.
    pub waiting: usize,
}

/// The places of one limit, and its queue. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    concurrency: Concurrency,
    free: Semaphore,
    waiting: AtomicUsize,
    adaptive: Option<Adaptive>,
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
        let adaptive = concurrency.adaptive.map(|bounds| Adaptive::new(bounds, concurrency.max));
        Self(Arc::new(Inner {
            concurrency,
            free: Semaphore::new(concurrency.max),
            waiting: AtomicUsize::new(0),
            adaptive,
        }))
    }

    /// Says whether no call has a place or waits for one.
    pub(super) fn are_all_free(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Takes a place, which is free again when the returned value is dropped.
    pub(super) async fn take(self, ctx: &RequestContext) -> Result<Place, NoPlace> {
        let Inner { concurrency, free, waiting, adaptive } = &*self.0;
        // Whoever waits gets a place before it is free, so this overtakes nobody.
        if let Ok(place) = free.try_acquire() {
            place.forget();
        } else {
            let _waiting = InQueue::enter(waiting, concurrency.queue).ok_or(NoPlace::Busy)?;
            let place = pin!(timeout(concurrency.max_wait, free.acquire()));
            match select(place, pin!(cancelled(ctx))).await {
                Either::Left((Ok(Ok(place)), _)) => place.forget(),
                Either::Left(_) => return Err(NoPlace::Waited),
                Either::Right(_) => return Err(NoPlace::Cancelled),
            }
        }
        let lowered = adaptive.as_ref().map_or(0, |adaptive| adaptive.began(free));
        Ok(Place { began: concurrency.slow_after.map(|_| Instant::now()), lowered, places: self })
    }

    pub(super) fn in_use(&self) -> InUse {
        let Inner { concurrency, free, waiting, adaptive } = &*self.0;
        let waiting = waiting.load(Ordering::Relaxed);
        let (limit, running) = match adaptive {
            None => (concurrency.max, concurrency.max.saturating_sub(free.available_permits())),
            Some(adaptive) => adaptive.in_use(free),
        };
        InUse { limit, running, waiting }
    }
}

/// The place of a running call.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    /// If calls can be too slow.
    began: Option<Instant>,
    /// How often an adaptive limit had been lowered when the call began.
    lowered: u64,
}

impl Place {
    pub(super) fn is_adaptive(&self) -> bool {
        self.places.0.adaptive.is_some()
    }

    /// Moves an adaptive limit by the end of the call.
    pub(super) fn ended(&self, ended: Ended) {
        let Inner { concurrency, free, adaptive: Some(adaptive), .. } = &*self.places.0 else { return };
        let is_slow = self.began.zip(concurrency.slow_after).is_some_and(|(began, time)| began.elapsed() > time);
        adaptive.ended(free, self.lowered, if is_slow && ended == Ended::Well { Ended::Overloaded } else { ended });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { free, adaptive, .. } = &*self.places.0;
        match adaptive {
            None => free.add_permits(1),
            Some(adaptive) => adaptive.give_back(free),
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
