use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use turbomcp_core::McpError;

use super::answers::{Answers, BatchError};
use super::dispatch::Shared;
use super::instruments::{InQueue, Instruments};
use super::queue::{Group, Item, Reply};
use super::settings::{MaxWeight, Settings, Split, WhenFull, batch_setters};
use crate::cancellation::Cancellation;
use crate::identity::share_of;
use crate::shared_work::{Anybody, Waits};
use crate::{ConfigError, Identity};

/// Turns calls that are made at the same time into one call of a bulk function.
///
/// This is what [`BatchedTool`](super::BatchedTool) sends calls with; inside a tool it is a data loader. Clones send together.
///
/// # Example
///
/// ```
/// use mcp_patterns::batched::Batcher;
/// use turbomcp::{McpError, McpResult, RequestContext};
///
/// /// One query for all of them: `select name from users where id = any($1)`.
/// async fn names(ids: Vec<u64>) -> McpResult<Vec<McpResult<String>>> {
///     let name = |id| match id {
///         1 => Ok("Ada".to_owned()),
///         2 => Ok("Bob".to_owned()),
///         _ => Err(McpError::invalid_params(format!("There is no user {id}"))),
///     };
///     Ok(ids.into_iter().map(name).collect())
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let users = Batcher::new(names);
/// let ctx = RequestContext::new();
/// let (ada, bob, nobody) = tokio::join!(users.load(&ctx, 1), users.load(&ctx, 2), users.load(&ctx, 3));
/// assert_eq!((ada?, bob?), ("Ada".to_owned(), "Bob".to_owned()));
/// assert_eq!(nobody.unwrap_err().message, "There is no user 3");
/// assert_eq!(users.stats().batches, 1);
/// # Ok::<(), McpError>(()) }).unwrap();
/// ```
///
/// # Cancellation
///
/// A batch belongs to all who wait for it: it runs in a task of its own, goes on when one of its callers leaves, and is
/// dropped when the last one has left. Task-locals of the callers are not seen there.
#[must_use]
pub struct Batcher<K, V, E = McpError> {
    settings: Arc<Settings<K, V, E>>,
    shared: Arc<Shared<K, V, E>>,
}

/// How a batcher is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait to be sent now.
    pub queued: usize,
    /// Batches under way now.
    pub in_flight: usize,
    /// Calls that were sent, since the batcher was made.
    pub sent: u64,
    /// Batches that they travelled in.
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
    /// Calls `bulk` with up to 64 items at a time, in up to 4 batches. See the [defaults](crate::batched#defaults).
    ///
    /// It returns a result for each item, in the order of the items: see [`Answers`].
    pub fn new<F>(bulk: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: Answers<V, E>> + Send + 'static,
    {
        Self { settings: Arc::new(Settings::new(bulk)), shared: Arc::default() }
    }

    batch_setters!(|this| this.settings_mut());

    /// Bounds what the items of a batch weigh together. An item that is heavier than `max_weight` travels alone.
    pub fn with_max_weight(mut self, max_weight: u64, weigh: impl Fn(&K) -> u64 + Send + Sync + 'static) -> Self {
        self.settings_mut().max_weight = Some(MaxWeight { max: max_weight, weigh: Arc::new(weigh) });
        self
    }

    /// Sets how callers are told apart, each of whom has a [share of the queue](Self::with_max_queue).
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Sends only items of one group together. The groups take turns.
    pub fn with_groups<G: Into<Vec<u8>>>(mut self, group: impl Fn(&K) -> G + Send + Sync + 'static) -> Self {
        self.settings_mut().group = Some(Arc::new(move |key| group(key).into()));
        self
    }

    /// Tries the halves of a batch that failed as a whole, and theirs, until the items that cannot succeed are found.
    ///
    /// Items are then sent more than once, so that must do no harm. A batch whose error [is
    /// temporary](BatchError::is_temporary) is not split.
    pub fn split_failed_batches(self) -> Self
    where
        K: Clone,
    {
        self.split_failed_batches_of(|_| true)
    }

    /// [`split_failed_batches`](Self::split_failed_batches) for those whose items may all be sent again.
    pub(super) fn split_failed_batches_of(mut self, may: impl Fn(&K) -> bool + Send + Sync + 'static) -> Self
    where
        K: Clone,
    {
        self.settings_mut().split = Some(Split { copy: K::clone, may: Arc::new(may) });
        self
    }

    pub(super) fn with_instruments(mut self, of: impl Fn(&K) -> Arc<Instruments> + Send + Sync + 'static) -> Self {
        self.settings_mut().instruments = Some(Arc::new(of));
        self
    }

    /// Sends `item` with others, and returns its result.
    ///
    /// A `cancellation` (the tool's `&RequestContext`, or `&()`) ends the wait within 50 ms.
    ///
    /// # Errors
    ///
    /// The item's own, or its batch's. And what [`BatchError`] names.
    pub async fn load(&self, cancellation: &impl Cancellation, item: K) -> Result<V, E> {
        self.travel(&Anybody(cancellation), item).await.result
    }

    /// Stops: accepts no more items, sends those that wait, and after `grace` answers all that are left.
    pub async fn shut_down(&self, grace: Duration) {
        self.shared.shut_down(grace).await;
    }

    /// Says how the batcher is doing.
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

    /// [`load`](Self::load), and how many travelled together.
    pub(super) async fn travel(&self, caller: &impl Waits, key: K) -> Reply<V, E> {
        let stays = |error| Reply { result: Err(error), size: 0, is_certain: true };
        if caller.is_cancelled() {
            return stays(E::cancelled());
        }
        let reply = async {
            let share = caller.call().map(|ctx| self.settings.identity.share_of(ctx));
            let reply = match self.submit(key, share).await {
                Ok(reply) => reply,
                Err(error) => return stays(error),
            };
            let mut waiter = Waiter { shared: &self.shared, waits: true };
            let reply = reply.await;
            waiter.waits = false;
            reply.unwrap_or_else(|_| Reply { result: Err(E::lost()), size: 0, is_certain: false })
        };
        caller.wait(pin!(reply)).await.unwrap_or_else(|| stays(E::cancelled()))
    }

    async fn submit(&self, key: K, share: Option<u64>) -> Result<oneshot::Receiver<Reply<V, E>>, E> {
        let settings = &self.settings;
        let group: Group = settings.group.as_ref().map_or_else(Vec::new, |group| group(&key)).into();
        let share = share.unwrap_or_else(|| share_of(&group));
        let weight = settings.max_weight.as_ref().map_or(1, |weight| (weight.weigh)(&key));
        let in_queue = settings.instruments.as_ref().map(|instruments| InQueue::enter(instruments(&key)));
        let queued = Instant::now();
        let place = match &settings.when_full {
            WhenFull::Refuse => None,
            // Places are never closed.
            WhenFull::Wait(places) => Arc::clone(places).acquire_owned().await.ok(),
        };
        let (reply, waiter) = oneshot::channel();
        let item = Item { key, reply, weight, share, queued, in_queue, _place: place };
        self.shared.submit(settings, group, item)?;
        Ok(waiter)
    }

    pub(super) fn open(&self) {
        self.shared.open();
    }

    /// Checks the settings. A [`BatchedTool`](super::BatchedTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for batches, a queue or a time with room for nothing.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.settings.check("BatchedTool")
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings<K, V, E> {
        Arc::make_mut(&mut self.settings)
    }
}

/// A caller who waits. Dropped while it does, it tells that it has left.
struct Waiter<'a, K: Send + 'static, V: Send + 'static, E: BatchError> {
    shared: &'a Shared<K, V, E>,
    waits: bool,
}

impl<K, V, E> Drop for Waiter<'_, K, V, E>
where
    K: Send + 'static,
    V: Send + 'static,
    E: BatchError,
{
    fn drop(&mut self) {
        if self.waits {
            self.shared.left();
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
