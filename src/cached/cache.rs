//! The engine: a cache of any values, which knows no tool and no handler.

pub(super) mod builder;
pub(super) mod envelope;
pub(super) mod error;
pub(super) mod load;
pub(super) mod load_task;
pub(super) mod loader;
pub(super) mod lookup;
pub(super) mod outbox;
pub(super) mod second_level_client;
pub(super) mod settings;
pub(super) mod single_flight;
pub(super) mod state;
pub(super) mod stats;
pub(super) mod sync;
pub(super) mod warm;

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use turbomcp_core::McpError;

use super::first_level::invalidation_key::{EntryKeys, InvalidationKey, KeyHasher, Target};
use crate::cancellation::Cancellation;
use crate::shared_work::Anybody;
use error::LoadError;
use loader::Loader;
use settings::Settings;
use stats::Stats;

/// Keeps values that are costly to load, and loads each of them once, whatever the number of concurrent callers.
///
/// [`CachedTool`](super::CachedTool) keeps its results in one. Inside a tool it keeps any values. Clones share the entries.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use mcp_patterns::cached::Cache;
/// use turbomcp::{McpError, McpResult, RequestContext};
///
/// #[derive(Clone)]
/// struct Rates {
///     cache: Cache<String, f64>,
/// }
///
/// impl Rates {
///     async fn rate(&self, currency: String, ctx: &RequestContext) -> McpResult<f64> {
///         self.cache.get_or_load(ctx, currency.clone(), move || async move { fetch(&currency).await }).await
///     }
/// }
///
/// async fn fetch(currency: &str) -> McpResult<f64> {
///     if currency == "EUR" { Ok(1.0) } else { Err(McpError::unavailable("the market is closed")) }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let rates = Rates { cache: Cache::new().with_ttl(Duration::from_secs(60)) };
/// let ctx = RequestContext::new();
/// assert_eq!(rates.rate("EUR".into(), &ctx).await?, 1.0);
/// assert_eq!(rates.rate("EUR".into(), &ctx).await?, 1.0);
/// assert!(rates.rate("USD".into(), &ctx).await.is_err());
///
/// let stats = rates.cache.stats();
/// assert_eq!((stats.hits, stats.loads, stats.failed_loads), (1, 2, 1));
/// # Ok::<(), McpError>(()) }).unwrap();
/// ```
///
/// # Cancellation
///
/// Cancelling one caller never affects the others: a load runs in a task of its own, and is dropped when its last caller has left. It
/// does not see the task-locals of its caller.
#[must_use]
pub struct Cache<K, V, E = McpError> {
    pub(super) loader: Loader<K, V, E>,
    /// Held by the clones of the cache only: the work in the background ends when it is dropped.
    alive: Arc<watch::Sender<()>>,
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Creates a cache that keeps up to 10,000 values, each for five minutes.
    pub fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(super) fn with_settings(settings: Settings<K, V, E>) -> Self {
        let (alive, is_alive) = watch::channel(());
        Self { loader: Loader::new(settings, is_alive), alive: Arc::new(alive) }
    }

    /// Returns the value of `key`, or `None` if this process has none that can be served.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        let (value, _) = self.loader.find(&Anybody(&()), key, &self.entry_keys(key))?;
        Some(value)
    }

    /// Returns the value of `key`, and loads it if there is none. Concurrent callers share one load.
    ///
    /// A `cancellation` (the tool's `&RequestContext`, or `&()`) ends the wait within 50 ms.
    ///
    /// # Errors
    ///
    /// The error of the load, for all callers who wait for it, and the errors of [`LoadError`].
    pub async fn get_or_load<L, F>(&self, cancellation: &impl Cancellation, key: K, load: L) -> Result<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let keys = self.entry_keys(&key);
        let loaded = self.loader.get_or_load(&Anybody(cancellation), key, &keys, self.ttl(), |_| load().boxed()).await;
        loaded.map(|(value, _)| value)
    }

    /// Loads the value of `key` now. The value that is kept is served until then, and stays if the load fails. A load that is under
    /// way is not kept.
    ///
    /// # Errors
    ///
    /// Those of [`get_or_load`](Self::get_or_load).
    pub async fn refresh<L, F>(&self, cancellation: &impl Cancellation, key: K, load: L) -> Result<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let keys = self.entry_keys(&key);
        let loaded = self.loader.refresh(&Anybody(cancellation), key, &keys, self.ttl(), |_| load().boxed()).await;
        loaded.map(|(value, _)| value)
    }

    /// Keeps `value` from now on, whatever the result of a load under way.
    pub fn insert(&self, key: K, value: V) {
        let key_of_entry = self.entry_key(&key);
        self.loader.insert(key, key_of_entry, value);
    }

    /// Removes the value of `key`. A load under way is not kept, and is not served to callers who ask from now on.
    pub fn invalidate(&self, key: &K) {
        self.loader.invalidate(&[self.entry_key(key)]);
        self.loader.remove(key);
    }

    /// Removes all values with this [tag](Self::with_tags), like [`invalidate`](Self::invalidate) for each of their keys.
    pub fn invalidate_tag(&self, tag: &str) {
        self.loader.invalidate(&[InvalidationKey::of_tag(tag)]);
    }

    /// Removes everything, like [`invalidate`](Self::invalidate) for all keys.
    pub fn clear(&self) {
        self.loader.invalidate_everything();
    }

    /// Waits until the second level, if there is one, has received all invalidations so far; no longer than
    /// [one step](Self::with_second_level_timeout) may take.
    pub async fn synced(&self) {
        if let Some(client) = self.loader.client() {
            client.synced(self.loader.state.settings.second_level_timeout).await;
        }
    }

    /// Returns the counters of the cache.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.loader.stats()
    }

    /// Subscribes to the invalidations of other replicas before the first load does.
    pub(crate) fn start(&self) {
        self.loader.start();
    }

    /// The key that invalidates exactly one entry.
    fn entry_key(&self, key: &K) -> InvalidationKey {
        let mut hasher = KeyHasher::default();
        match &self.loader.state.settings.level {
            None => key.hash(&mut hasher),
            // A hash of the encoded key, which is the same on every replica. Writing to a hash does not fail; a key that cannot be
            // encoded is in no second level.
            Some(level) => drop((level.codec.key)(key, &mut hasher)),
        }
        InvalidationKey::new(Target::Entry, hasher.finish())
    }

    pub(super) fn entry_keys(&self, key: &K) -> EntryKeys<1> {
        let of_entry = self.entry_key(key);
        match &self.loader.state.settings.tags {
            None => EntryKeys::Plain([of_entry]),
            Some(tags) => {
                let mut keys = tags(key);
                keys.push(of_entry);
                EntryKeys::Tagged(keys)
            }
        }
    }
}

impl<K, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self { loader: Loader { state: self.loader.state.clone() }, alive: Arc::clone(&self.alive) }
    }
}

impl<K, V, E> Default for Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, E> fmt::Debug for Cache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.loader.state.settings;
        f.debug_struct("Cache")
            .field("freshness", &settings.freshness)
            .field("idle_time", &settings.idle_time)
            .field("max_entries", &settings.bounds.max_entries)
            .finish_non_exhaustive()
    }
}
