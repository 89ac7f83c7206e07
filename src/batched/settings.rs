//! The settings of a batcher, and its bulk function.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::error::BatchError;
use super::instruments::Instruments;
use super::results::IntoResults;
use crate::clock::is_too_short;
use crate::{ConfigError, Identity};

pub(super) type Results<V, E> = Result<Vec<Result<V, E>>, E>;
type Bulk<K, V, E> = Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Results<V, E>> + Send + Sync>;

/// A function of an item.
pub(super) type ItemFn<K, T> = Arc<dyn Fn(&K) -> T + Send + Sync>;

pub(super) struct Settings<K, V, E> {
    pub(super) bulk: Bulk<K, V, E>,
    pub(super) max_size: usize,
    pub(super) max_in_flight: usize,
    pub(super) max_delay: Duration,
    pub(super) max_weight: Option<MaxWeight<K>>,
    pub(super) max_queue: usize,
    pub(super) when_full: WhenFull,
    pub(super) batch_timeout: Option<Duration>,
    pub(super) group: Option<ItemFn<K, Vec<u8>>>,
    /// Distinguishes the callers, each of whom has a share of the queue.
    pub(super) identity: Identity,
    pub(super) split: Option<Split<K>>,
    pub(super) instruments: Option<ItemFn<K, Arc<Instruments>>>,
}

/// Limits a batch by the total weight of its items.
pub(super) struct MaxWeight<K> {
    pub(super) max: u64,
    pub(super) weigh: ItemFn<K, u64>,
}

/// The behaviour when the queue is full.
#[derive(Debug, Clone)]
pub(super) enum WhenFull {
    Refuse,
    /// A caller waits for a permit. There are as many as the queue has places.
    Wait(Arc<Semaphore>),
}

/// How the items of a failed batch are copied for its halves, and whether they may be sent again.
pub(super) struct Split<K> {
    pub(super) copy: fn(&K) -> K,
    pub(super) may_repeat: ItemFn<K, bool>,
}

impl<K, V, E> Settings<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    pub(super) fn new<F>(bulk: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: IntoResults<V, E>> + Send + 'static,
    {
        let bulk: Bulk<K, V, E> = Arc::new(move |items| bulk(items).map(IntoResults::into_results).boxed());
        Self {
            bulk,
            max_size: 64,
            max_in_flight: 4,
            max_delay: Duration::ZERO,
            max_weight: None,
            max_queue: 1024,
            when_full: WhenFull::Refuse,
            batch_timeout: Some(Duration::from_secs(300)),
            group: None,
            identity: Identity::new(),
            split: None,
            instruments: None,
        }
    }

    pub(super) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |setting, reason| Err(ConfigError::invalid(layer, setting, reason));
        let max_weight = self.max_weight.as_ref().map_or(1, |weight| weight.max);
        for (setting, is_zero) in [
            ("with_max_size", self.max_size == 0),
            ("with_max_in_flight", self.max_in_flight == 0),
            ("with_max_queue", self.max_queue == 0),
            ("with_max_weight", max_weight == 0),
        ] {
            if is_zero {
                return refuse(setting, "must be greater than zero");
            }
        }
        if self.batch_timeout.is_some_and(is_too_short) {
            return refuse("with_batch_timeout", "must be at least 1 ms; `without_batch_timeout` removes the limit");
        }
        self.identity.check(layer)
    }
}

/// The setters that the engine and the layer share. `$settings` are the [`Settings`] of `$this`.
macro_rules! batch_setters {
    (|$this:ident| $settings:expr) => {
        /// Sets the maximum number of calls in a batch.
        pub fn with_max_size(mut self, max_size: usize) -> Self {
            let $this = &mut self;
            $settings.max_size = max_size;
            self
        }

        /// Sets the maximum number of batches in flight, of all groups together.
        pub fn with_max_in_flight(mut self, max_in_flight: usize) -> Self {
            let $this = &mut self;
            $settings.max_in_flight = max_in_flight;
            self
        }

        /// Lets a batch that is not full wait for more calls, until `max_delay` after the arrival of its first call. Without this
        /// setting, it is sent as soon as fewer batches than allowed are in flight.
        pub fn with_max_delay(mut self, max_delay: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.max_delay = max_delay;
            self
        }

        /// Sets how many calls may wait to be sent. Further calls are rejected, or [wait](Self::wait_when_full).
        ///
        /// A full queue makes room for the call of a caller who has fewer calls in it than another: the caller with most calls loses the
        /// newest one, in the group with most of them. Among the calls of one caller, a smaller group takes from the largest. Callers
        /// who are not authenticated are distinguished by their connection. If a call has no caller (`&()` as its cancellation), its
        /// group counts as the caller.
        pub fn with_max_queue(mut self, max_queue: usize) -> Self {
            let $this = &mut self;
            let settings = $settings;
            settings.max_queue = max_queue;
            if let $crate::batched::settings::WhenFull::Wait(_) = settings.when_full {
                settings.wait_when_full();
            }
            self
        }

        /// Lets callers wait for room in a full queue, in the order of their arrival, instead of rejecting their calls.
        pub fn wait_when_full(mut self) -> Self {
            let $this = &mut self;
            $settings.wait_when_full();
            self
        }

        /// Ends a batch after `timeout`, with an error for all callers who have no answer yet.
        pub fn with_batch_timeout(mut self, timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.batch_timeout = Some(timeout);
            self
        }

        /// Removes the time limit of batches.
        pub fn without_batch_timeout(mut self) -> Self {
            let $this = &mut self;
            $settings.batch_timeout = None;
            self
        }
    };
}
pub(super) use batch_setters;

impl<K, V, E> Settings<K, V, E> {
    pub(super) fn wait_when_full(&mut self) {
        let permits = self.max_queue.min(Semaphore::MAX_PERMITS);
        self.when_full = WhenFull::Wait(Arc::new(Semaphore::new(permits)));
    }
}

impl<K, V, E> Clone for Settings<K, V, E> {
    fn clone(&self) -> Self {
        Self {
            bulk: Arc::clone(&self.bulk),
            max_weight: self.max_weight.clone(),
            when_full: self.when_full.clone(),
            group: self.group.clone(),
            identity: self.identity.clone(),
            split: self.split.clone(),
            instruments: self.instruments.clone(),
            ..*self
        }
    }
}

impl<K> Clone for MaxWeight<K> {
    fn clone(&self) -> Self {
        Self { max: self.max, weigh: Arc::clone(&self.weigh) }
    }
}

impl<K> Clone for Split<K> {
    fn clone(&self) -> Self {
        Self { copy: self.copy, may_repeat: Arc::clone(&self.may_repeat) }
    }
}

impl<K, V, E> fmt::Debug for Settings<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_size", &self.max_size)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_delay", &self.max_delay)
            .field("max_weight", &self.max_weight.as_ref().map(|weight| weight.max))
            .field("max_queue", &self.max_queue)
            .field("waits_when_full", &matches!(self.when_full, WhenFull::Wait(_)))
            .field("batch_timeout", &self.batch_timeout)
            .finish_non_exhaustive()
    }
}
