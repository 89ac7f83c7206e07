pub(super) mod builder;
pub(super) mod envelope;
pub(super) mod error;
pub(super) mod link;
pub(super) mod load;
pub(super) mod loader;
pub(super) mod lookup;
pub(super) mod outbox;
pub(super) mod settings;
pub(super) mod single_flight;
pub(super) mod stats;
pub(super) mod sync;
pub(super) mod warm;

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use turbomcp_core::McpError;

use super::first_level::entry::Slot;
use super::first_level::invalidation_key::{EntryKeys, InvalidationKey, KeyHasher, Target};
use crate::cancellation::Cancellation;
use crate::shared_work::Anybody;
use error::LoadError;
use link::Link;
use loader::{Owner, Shared};
use settings::Settings;
use stats::Stats;

/// Keeps values that are costly to get, and gets each of them once however many ask at the same time.
///
/// This is what [`CachedTool`](super::CachedTool) keeps results in; inside a tool it keeps anything. Clones share the entries.
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
/// A load belongs to all who wait for it: it runs in a task of its own, goes on when the caller who started it leaves, and is
/// dropped when the last one has left. Task-locals of the caller are not seen there.
#[must_use]
pub struct Cache<K, V, E = McpError> {
    pub(super) settings: Arc<Settings<K, V, E>>,
    owner: Arc<Owner<K, V, E>>,
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Keeps up to 10,000 values for five minutes each.
    pub fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(super) fn with_settings(settings: Settings<K, V, E>) -> Self {
        let owner = Arc::new(Owner::new(&settings));
        Self { settings: Arc::new(settings), owner }
    }

    /// Returns the value of `key`, or `None` where this process has none that can be served.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        let (value, _) = self.shared().find(&self.settings, key, &self.entry_keys(key))?;
        Some(value)
    }

    /// Returns the value of `key`, loading it where there is none. All who ask at the same time share one load.
    ///
    /// A `cancellation` (the tool's `&RequestContext`, or `&()`) ends the wait within 50 ms.
    ///
    /// # Errors
    ///
    /// The error of the load, to all who wait for it. And what [`LoadError`] names.
    pub async fn get_or_load<L, F>(&self, cancellation: &impl Cancellation, key: K, load: L) -> Result<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let keys = self.entry_keys(&key);
        self.get_or_load_in(&Anybody(cancellation), key, &keys, self.settings.freshness.ttl, |_| load().boxed())
            .await
            .map(|(value, _)| value)
    }

    /// Loads the value of `key` now and keeps it in place of the one there is, which is served until then, and stays if the
    /// load fails. A load that is under way is not kept.
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
        self.refresh_in(&Anybody(cancellation), key, &keys, self.settings.freshness.ttl, |_| load().boxed())
            .await
            .map(|(value, _)| value)
    }

    /// Keeps `value` from now on, whatever a load under way comes to.
    pub fn insert(&self, key: K, value: V) {
        let (shared, entry_key) = (self.shared(), self.entry_key(&key));
        let (life, weight) =
            (self.settings.life(self.settings.freshness.ttl, Duration::ZERO), self.settings.weigh(&key, &value));
        shared.flights.exclude(|| {
            shared.invalidate(&self.settings, &[entry_key]);
            let stamp = shared.generations.stamp();
            shared.put(key, weight.map(|weight| Arc::new(Slot::new(value, stamp, life, weight))));
        });
    }

    /// Forgets the value of `key`. A load under way is not kept, and not served to anyone who asks from now on.
    pub fn invalidate(&self, key: &K) {
        self.invalidate_keys(&[self.entry_key(key)]);
        self.shared().store.remove(key);
    }

    /// Forgets all values with this [tag](Self::with_tags), like [`invalidate`](Self::invalidate) for each of their keys.
    pub fn invalidate_tag(&self, tag: &str) {
        self.invalidate_keys(&[InvalidationKey::of_tag(tag)]);
    }

    /// Forgets everything, like [`invalidate`](Self::invalidate) for all keys.
    pub fn clear(&self) {
        self.shared().invalidate_everything(&self.settings);
    }

    /// Waits until the second level, if there is one, knows of all invalidations so far; no longer than
    /// [one step](Self::with_second_level_timeout) may take.
    pub async fn synced(&self) {
        if let Some(link) = &self.shared().link {
            link.told(self.settings.second_level_timeout).await;
        }
    }

    /// Says how the cache is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let stats = shared.counts.stats(shared.store.size(&self.settings.bounds));
        Stats { second_level: shared.link.as_ref().map(Link::stats), ..stats }
    }

    /// Begins to listen to other replicas, before the first load does.
    pub(crate) fn start(&self) {
        self.shared().start(&self.settings);
    }

    /// Forgets all entries that one of `keys` invalidates.
    pub(super) fn invalidate_keys(&self, keys: &[InvalidationKey]) {
        self.shared().invalidate(&self.settings, keys);
    }

    /// What invalidates exactly one key.
    fn entry_key(&self, key: &K) -> InvalidationKey {
        let mut hasher = KeyHasher::default();
        match &self.settings.level {
            None => key.hash(&mut hasher),
            // Of what is written, since it is the same on every replica. Writing to a hash does not fail; a key that cannot be
            // written is in no second level.
            Some(level) => drop((level.codec.key)(key, &mut hasher)),
        }
        InvalidationKey::new(Target::Entry, hasher.finish())
    }

    pub(super) fn entry_keys(&self, key: &K) -> EntryKeys<1> {
        let of_entry = self.entry_key(key);
        match &self.settings.tags {
            None => EntryKeys::Plain([of_entry]),
            Some(tags) => {
                let mut keys = tags(key);
                keys.push(of_entry);
                EntryKeys::Tagged(keys)
            }
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<K, V, E>> {
        &self.owner.shared
    }
}

impl<K, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), owner: Arc::clone(&self.owner) }
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
        f.debug_struct("Cache")
            .field("freshness", &self.settings.freshness)
            .field("idle_time", &self.settings.idle_time)
            .field("max_entries", &self.settings.bounds.max_entries)
            .finish_non_exhaustive()
    }
}
