use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use turbomcp_core::McpError;

use super::dispatch::Shared;
use super::error::BatchError;
use super::instruments::{InQueue, Instruments};
use super::queue::{Group, QueuedItem, Reply};
use super::results::IntoResults;
use super::settings::{MaxWeight, Settings, Split, WhenFull, batch_setters};
use crate::cancellation::Cancellation;
use crate::identity::share_of;
use crate::shared_work::{Anybody, Waits};
use crate::{ConfigError, Identity};

/// Combines concurrent calls into one call of a bulk function.
///
/// It is the engine of [`BatchedTool`](super::BatchedTool); inside a tool it is a data loader. Clones share batches.
///
/// # Example
///
/// ```
/// use mcp_patterns::batched::Batcher;
/// use turbomcp::{McpError, McpResult, RequestContext};
///
/// /// One query for all ids: `select name from users where id = any($1)`.
/// async fn names(ids: Vec<u64>) -> McpResult<Vec<McpResult<String>>> {
///     let name = |id| match id {
///         1 => Ok("Ada".to_owned()),
///         2 => Ok("Bob".to_owned()),
///         _ => Err(McpError::invalid_params(format!("There is no user {id}"))),
///     };
///     Ok(ids.into_iter().map(name).collect())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Batcher::new(names);
/// let ctx = RequestContext::new();
/// let (ada, bob, nobody) =
///     tokio::join!(users.load(&ctx, 1), users.load(&ctx, 2), users.load(&ctx, 3));
/// assert_eq!((ada?, bob?), ("Ada".to_owned(), "Bob".to_owned()));
/// assert_eq!(nobody.unwrap_err().message, "There is no user 3");
/// assert_eq!(users.stats().sent, 3);
/// # Ok(()) }
/// ```
///
/// # Cancellation
///
/// A batch runs in a task of its own: it continues when one of its callers leaves, and is dropped when the last one has left.
/// It does not see the task-locals of the callers.
#[must_use]
pub struct Batcher<K, V, E = McpError> {
    settings: Arc<Settings<K, V, E>>,
    shared: Arc<Shared<K, V, E>>,
}

/// The counters of a batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait to be sent.
    pub queued: usize,
    /// Batches in flight.
    pub in_flight: usize,
    /// Calls that were sent since the batcher was created.
    pub sent: u64,
    /// Batches in which they were sent.
    pub batches: u64,
    /// Calls that found the queue full.
    pub refused: u64,
}

impl<K, V, E> Batcher<K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    /// Creates a batcher that calls `bulk` with up to 64 items at a time, in up to 4 batches. See the
    /// [defaults](crate::batched#defaults).
    ///
    /// `bulk` returns a result for each item, in the order of the items: see [`IntoResults`].
    pub fn new<F>(bulk: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: IntoResults<V, E>> + Send + 'static,
    {
        Self { settings: Arc::new(Settings::new(bulk)), shared: Arc::default() }
    }

    batch_setters!(|this| this.settings_mut());

    /// Limits the total weight of the items of a batch. An item that is heavier than `max_weight` is sent alone.
    pub fn with_max_weight(mut self, max_weight: u64, weigh: impl Fn(&K) -> u64 + Send + Sync + 'static) -> Self {
        self.settings_mut().max_weight = Some(MaxWeight { max: max_weight, weigh: Arc::new(weigh) });
        self
    }

    /// Sets how callers are distinguished. Each caller has a [share of the queue](Self::with_max_queue).
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Puts only items of the same group into one batch. The groups take turns.
    pub fn with_groups<G: Into<Vec<u8>>>(mut self, group: impl Fn(&K) -> G + Send + Sync + 'static) -> Self {
        self.settings_mut().group = Some(Arc::new(move |key| group(key).into()));
        self
    }

    /// Splits a batch that failed as a whole into halves, repeatedly, until the items that cannot succeed are found.
    ///
    /// Items are then sent more than once, so this must be safe. A batch whose error [is
    /// temporary](BatchError::is_temporary) is not split.
    pub fn split_failed_batches(self) -> Self
    where
        K: Clone,
    {
        self.split_failed_batches_of(|_| true)
    }

    /// [Splits](Self::split_failed_batches) the batches whose items may all be sent again.
    pub(super) fn split_failed_batches_of(mut self, may_repeat: impl Fn(&K) -> bool + Send + Sync + 'static) -> Self
    where
        K: Clone,
    {
        self.settings_mut().split = Some(Split { copy: K::clone, may_repeat: Arc::new(may_repeat) });
        self
    }

    pub(super) fn with_instruments(mut self, of: impl Fn(&K) -> Arc<Instruments> + Send + Sync + 'static) -> Self {
        self.settings_mut().instruments = Some(Arc::new(of));
        self
    }

    /// Sends `item` in a batch, and returns its result.
    ///
    /// A `cancellation` (the tool's `&RequestContext`, or `&()`) ends the wait within 50 ms.
    ///
    /// # Errors
    ///
    /// The error of the item or of its batch, or an error that [`BatchError`] creates.
    pub async fn load(&self, cancellation: &impl Cancellation, item: K) -> Result<V, E> {
        self.submit(&Anybody(cancellation), item).await.result
    }

    /// Shuts down: accepts no more items, sends those that wait, and rejects those that are not answered after `grace`.
    pub async fn shut_down(&self, grace: Duration) {
        self.shared.shut_down(grace).await;
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.shared.lock();
        let counts = state.counts;
        Stats {
            queued: state.queue.len(),
            in_flight: counts.in_flight,
            sent: counts.sent,
            batches: counts.batches,
            refused: counts.refused,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.settings.identity
    }

    /// Sends an item as [`load`](Self::load) does, and returns the size of its batch too.
    pub(super) async fn submit(&self, caller: &impl Waits, key: K) -> Reply<V, E> {
        let unsent = |error| Reply { result: Err(error), size: 0, is_certain: true };
        if caller.is_cancelled() {
            return unsent(E::cancelled());
        }
        let reply = async {
            let share = caller.call().map(|ctx| self.settings.identity.share_of(ctx));
            let reply = match self.enqueue(key, share).await {
                Ok(reply) => reply,
                Err(error) => return unsent(error),
            };
            let mut notify = NotifyOnDrop { shared: &self.shared, is_armed: true };
            let reply = reply.await;
            notify.is_armed = false;
            reply.unwrap_or_else(|_| Reply { result: Err(E::aborted()), size: 0, is_certain: false })
        };
        caller.wait(pin!(reply)).await.unwrap_or_else(|| unsent(E::cancelled()))
    }

    async fn enqueue(&self, key: K, share: Option<u64>) -> Result<oneshot::Receiver<Reply<V, E>>, E> {
        let settings = &self.settings;
        let group: Group = settings.group.as_ref().map_or_else(Vec::new, |group| group(&key)).into();
        let share = share.unwrap_or_else(|| share_of(&group));
        let weight = settings.max_weight.as_ref().map_or(1, |weight| (weight.weigh)(&key));
        let in_queue = settings.instruments.as_ref().map(|instruments| InQueue::enter(instruments(&key)));
        let queued = Instant::now();
        let permit = match &settings.when_full {
            WhenFull::Refuse => None,
            // The semaphore is never closed.
            WhenFull::Wait(permits) => Arc::clone(permits).acquire_owned().await.ok(),
        };
        let (reply, waiter) = oneshot::channel();
        let item = QueuedItem { key, reply, weight, share, queued, in_queue, _permit: permit };
        self.shared.enqueue(settings, group, item)?;
        Ok(waiter)
    }

    pub(super) fn open(&self) {
        self.shared.open();
    }

    /// Checks the settings. A [`BatchedTool`](super::BatchedTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a bound of zero, or a timeout below one millisecond.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.settings.check("BatchedTool")
    }

    pub(super) fn settings(&self) -> &Settings<K, V, E> {
        &self.settings
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings<K, V, E> {
        Arc::make_mut(&mut self.settings)
    }
}

/// Reports that a caller has left, unless it is disarmed before it is dropped.
struct NotifyOnDrop<'a, K: Send + 'static, V: Send + 'static, E: BatchError> {
    shared: &'a Shared<K, V, E>,
    is_armed: bool,
}

impl<K, V, E> Drop for NotifyOnDrop<'_, K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    fn drop(&mut self) {
        if self.is_armed {
            self.shared.caller_left();
        }
    }
}

impl<K, V, E> Clone for Batcher<K, V, E> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), shared: Arc::clone(&self.shared) }
    }
}

impl<K, V, E> fmt::Debug for Batcher<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}
