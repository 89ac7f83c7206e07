//! What a batcher may do, and what it calls.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::answers::{Answers, BatchError};
use super::instruments::Instruments;
use crate::clock::is_too_short;
use crate::{ConfigError, Identity};

pub(super) type Results<V, E> = Result<Vec<Result<V, E>>, E>;
type Bulk<K, V, E> = Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Results<V, E>> + Send + Sync>;

/// Says something of an item.
pub(super) type Of<K, T> = Arc<dyn Fn(&K) -> T + Send + Sync>;

pub(super) struct Settings<K, V, E> {
    pub(super) bulk: Bulk<K, V, E>,
    pub(super) max_size: usize,
    pub(super) max_in_flight: usize,
    pub(super) max_delay: Duration,
    pub(super) max_weight: Option<MaxWeight<K>>,
    pub(super) max_queue: usize,
    pub(super) when_full: WhenFull,
    pub(super) batch_timeout: Option<Duration>,
    pub(super) group: Option<Of<K, Vec<u8>>>,
    /// Tells apart who has a share of the queue.
    pub(super) identity: Identity,
    pub(super) split: Option<Split<K>>,
    pub(super) instruments: Option<Of<K, Arc<Instruments>>>,
}

/// Bounds a batch by what its items weigh together.
pub(super) struct MaxWeight<K> {
    pub(super) max: u64,
    pub(super) weigh: Of<K, u64>,
}

/// What becomes of a caller when the queue is full.
#[derive(Debug, Clone)]
pub(super) enum WhenFull {
    Refuse,
    /// It waits for one of as many places as the queue has.
    Wait(Arc<Semaphore>),
}

/// How the items of a batch that failed are tried again in halves, and whether they may.
pub(super) struct Split<K> {
    pub(super) copy: fn(&K) -> K,
    pub(super) may: Of<K, bool>,
}

impl<K, V, E> Settings<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    pub(super) fn new<F>(bulk: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: Answers<V, E>> + Send + 'static,
    {
        let bulk: Bulk<K, V, E> = Arc::new(move |items| bulk(items).map(Answers::into_results).boxed());
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
        if self.max_size == 0 {
            return refuse("with_max_size", "a batch of 0 calls answers none: allow 1 or more");
        }
        if self.max_in_flight == 0 {
            return refuse("with_max_in_flight", "with 0 batches at a time nothing is sent: allow 1 or more");
        }
        self.identity.check(layer)?;
        if self.max_queue == 0 {
            return refuse("with_max_queue", "a queue of 0 calls refuses all of them: allow 1 or more");
        }
        if self.max_weight.as_ref().is_some_and(|weight| weight.max == 0) {
            return refuse("with_max_weight", "a batch of weight 0 has room for nothing: allow more");
        }
        if self.batch_timeout.is_some_and(is_too_short) {
            return refuse(
                "with_batch_timeout",
                "it must be at least a millisecond: use a longer timeout, or `without_batch_timeout`",
            );
        }
        Ok(())
    }
}

/// The setters that the engine and the layer share. `$settings` are the [`Settings`] of `$this`.
macro_rules! batch_setters {
    (|$this:ident| $settings:expr) => {
        /// Sets how many calls travel together at most.
        pub fn with_max_size(mut self, max_size: usize) -> Self {
            let $this = &mut self;
            $settings.max_size = max_size;
            self
        }

        /// Sets how many batches are under way at the same time, of all groups together.
        pub fn with_max_in_flight(mut self, max_in_flight: usize) -> Self {
            let $this = &mut self;
            $settings.max_in_flight = max_in_flight;
            self
        }

        /// Lets a batch that is not full wait for more, for so long after its first call came. Without this setting, it is sent
        /// the moment a place is free.
        pub fn with_max_delay(mut self, max_delay: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.max_delay = max_delay;
            self
        }

        /// Sets how many calls may wait to be sent. What comes then is refused, or [waits](Self::wait_when_full).
        ///
        /// A full queue makes room for a call of who has fewer in it than another caller: the one who has most gives up the newest, in
        /// the group with most of them. Among the calls of one caller, a group with fewer takes from the largest. Callers who are not
        /// authenticated are told apart by their connection. Where calls are made for nobody (`&()` as their cancellation), each
        /// group stands for a caller.
        pub fn with_max_queue(mut self, max_queue: usize) -> Self {
            let $this = &mut self;
            let settings = $settings;
            settings.max_queue = max_queue;
            if let $crate::batched::settings::WhenFull::Wait(_) = settings.when_full {
                settings.wait_when_full();
            }
            self
        }

        /// Lets callers wait for room in a full queue, in the order in which they came, instead of refusing them.
        pub fn wait_when_full(mut self) -> Self {
            let $this = &mut self;
            $settings.wait_when_full();
            self
        }

        /// Gives a batch up after `timeout`, with an error to all who have no answer yet.
        pub fn with_batch_timeout(mut self, timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.batch_timeout = Some(timeout);
            self
        }

        /// Lets batches take as long as they take.
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
        let places = self.max_queue.min(Semaphore::MAX_PERMITS);
        self.when_full = WhenFull::Wait(Arc::new(Semaphore::new(places)));
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
        Self { copy: self.copy, may: Arc::clone(&self.may) }
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
