use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use turbomcp_core::McpError;

use super::domain::DomainHasher;
use super::error::LoadError;
use super::flight::Waiter;
use super::freshness::Verdict;
use super::key::tag_domain;
use super::level::SecondLevel;
use super::link::{Codec, LevelSettings, Link};
use super::settings::{Negative, Settings};
use super::shared::{Outcome, Owner, Plan, Reason, Shared};
use super::stats::Stats;
use super::writes::OfEntry;
use crate::ConfigError;
use crate::cancellation::{Cancellation, cancelled};
use crate::shared::Abandoned;

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
    settings: Arc<Settings<K, V, E>>,
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

    fn with_settings(settings: Settings<K, V, E>) -> Self {
        let owner = Arc::new(Owner::new(&settings));
        Self { settings: Arc::new(settings), owner }
    }

    fn set(mut self, set: impl FnOnce(&mut Settings<K, V, E>)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }

    /// The cache starts anew.
    fn set_anew(self, set: impl FnOnce(&mut Settings<K, V, E>)) -> Self {
        let mut settings = Settings::clone(&self.settings);
        set(&mut settings);
        Self::with_settings(settings)
    }

    /// Sets how long a value is kept after it was loaded.
    pub fn with_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.freshness.ttl = ttl)
    }

    /// Shortens each ttl by chance, by up to this share of it (0.1 for a tenth): values that were loaded together are not
    /// loaded again together.
    pub fn with_ttl_jitter(self, share: f64) -> Self {
        self.set(|settings| settings.freshness.jitter = share)
    }

    /// Serves a value for this long after its ttl, while it is refreshed in the background: by one load, which has the
    /// [load timeout](Self::with_load_timeout) and ends when the last clone of the cache is dropped.
    ///
    /// A refresh that fails is tried again after a second at the earliest. If the failure says that there is nothing any more
    /// ([`LoadError::allows_stale`]), the value is dropped.
    pub fn with_stale_while_revalidate(self, window: Duration) -> Self {
        self.set(|settings| settings.freshness.while_revalidate = window)
    }

    /// Serves a value for this long after its ttl where loading it anew fails, if the error
    /// [allows](LoadError::allows_stale) that; for the next second, without trying to load it.
    pub fn with_stale_if_error(self, window: Duration) -> Self {
        self.set(|settings| settings.freshness.if_error = window)
    }

    /// Refreshes a value in the background before its ttl ends: by chance, the likelier the nearer the end is and the longer
    /// its load takes. 1.0 is a good factor; a larger one refreshes earlier.
    ///
    /// This is [XFetch](https://www.vldb.org/pvldb/vol8/p886-vattani.pdf). It keeps what is asked for often from ever expiring,
    /// without serving anything past its ttl.
    pub fn with_early_refresh(self, factor: f64) -> Self {
        self.set(|settings| settings.freshness.early = Some(factor))
    }

    /// Keeps the failures that `includes` says yes to, for `ttl`: up to 1,000, in this process. Use it for failures that are
    /// answers, such as "not found".
    pub fn with_negative_ttl(self, ttl: Duration, includes: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.negative = Some(Negative { ttl, includes: Arc::new(includes) }))
    }

    /// Tags values by their keys, so that they can be [invalidated](Self::invalidate_tag) together.
    pub fn with_tags<T>(self, tags: impl Fn(&K) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        let tags = move |key: &K| tags(key).into_iter().map(|tag| tag_domain(tag.as_ref())).collect();
        self.set(|settings| settings.tags = Some(Arc::new(tags)))
    }

    /// Drops a value that nobody asked for during `idle_time`, before its ttl ends.
    pub fn with_idle_time(self, idle_time: Duration) -> Self {
        self.set(|settings| settings.idle_time = Some(idle_time))
    }

    /// Bounds the number of values. The cache starts anew, and empty.
    pub fn with_max_entries(self, max_entries: u64) -> Self {
        self.set_anew(|settings| settings.bounds.max_entries = max_entries)
    }

    /// Bounds the bytes of all values, each of them measured by `size_of`. The cache starts anew, and empty.
    ///
    /// A value counts for `max_bytes / max_entries` at least: so one bound keeps both.
    pub fn with_max_bytes(self, max_bytes: u64, size_of: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.set_anew(|settings| settings.bounds.bytes = Some((max_bytes, Arc::new(size_of))))
    }

    /// Passes on, but does not keep, a value above `max_item_bytes`. Counts where [`with_max_bytes`](Self::with_max_bytes)
    /// says how to measure.
    pub fn with_max_item_bytes(self, max_item_bytes: u64) -> Self {
        self.set(|settings| settings.max_item_bytes = Some(max_item_bytes))
    }

    /// Gives a load up after `timeout`, with an error to all who wait.
    pub fn with_load_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.load_timeout = Some(timeout))
    }

    /// Lets loads take as long as they take.
    pub fn without_load_timeout(self) -> Self {
        self.set(|settings| settings.load_timeout = None)
    }

    /// Shares values with other replicas through `level`, under the name of this cache: caches that share a level need names of
    /// their own. Keys and values travel as JSON. The cache starts anew, and empty.
    ///
    /// See [what that means](super#a-second-level).
    pub fn with_second_level(self, name: impl Into<String>, level: impl SecondLevel) -> Self
    where
        K: Serialize,
        V: Serialize + DeserializeOwned,
    {
        self.with_level(LevelSettings {
            level: Arc::new(level),
            name: name.into(),
            codec: Codec {
                key: |key, to| Ok(serde_json::to_writer(to, key)?),
                encode: |value| serde_json::to_vec(value).ok(),
                decode: |bytes| serde_json::from_slice(bytes).ok(),
            },
        })
    }

    pub(super) fn with_level(self, level: LevelSettings<K, V>) -> Self {
        self.set_anew(|settings| settings.level = Some(level))
    }

    /// Sets how long a value is served without asking the second level again. Default: 30 s.
    pub fn with_first_level_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.first_level_ttl = ttl)
    }

    /// The same, while invalidations of other replicas are not heard: the connection is lost, or the level has no way to tell of
    /// them. Default: 1 s.
    pub fn with_unsubscribed_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.unsubscribed_ttl = ttl)
    }

    /// Sets how long each step of the second level may take. Default: 50 ms.
    pub fn with_second_level_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.second_level_timeout = timeout)
    }

    /// Lets one replica at a time load a value, and the others wait for it: for as long as `lease` at most, after which they load
    /// it themselves. So does one whose second level does not answer.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.set(|settings| settings.lease = Some(lease))
    }

    /// Returns the value of `key`, or `None` where this process has none that can be served.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        let (value, _) = self.shared().find(&self.settings, key, &self.domains(key))?;
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
        let domains = self.domains(&key);
        self.get_or_load_in(cancellation, key, &domains, self.settings.freshness.ttl, |_| load())
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
        let domains = self.domains(&key);
        self.refresh_in(cancellation, key, &domains, self.settings.freshness.ttl, |_| load())
            .await
            .map(|(value, _)| value)
    }

    /// Keeps `value` from now on, whatever a load under way comes to.
    pub fn insert(&self, key: K, value: V) {
        let shared = self.shared();
        shared.invalidate(&self.settings, &[self.domain(&key)]);
        let stamp = shared.generations.stamp(&self.domains(&key));
        self.settings.keep(&shared.store, key, &value, self.settings.freshness.ttl, Duration::ZERO, stamp);
    }

    /// Forgets the value of `key`. A load under way is not kept, and not served to anyone who asks from now on.
    pub fn invalidate(&self, key: &K) {
        self.invalidate_domains(&[self.domain(key)]);
        self.shared().store.remove(key);
    }

    /// Forgets all values with this [tag](Self::with_tags), like [`invalidate`](Self::invalidate) for each of their keys.
    pub fn invalidate_tag(&self, tag: &str) {
        self.invalidate_domains(&[tag_domain(tag)]);
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

    pub(crate) fn ttl(&self) -> Duration {
        self.settings.freshness.ttl
    }

    /// Begins to listen to other replicas, before the first load does.
    pub(crate) fn start(&self) {
        self.shared().start(&self.settings);
    }

    pub(crate) fn max_item_bytes(&self) -> Option<u64> {
        self.settings.max_item_bytes
    }

    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        self.settings.check(layer)
    }

    /// Forgets all entries that were stored in one of `domains`.
    pub(crate) fn invalidate_domains(&self, domains: &[u64]) {
        self.shared().invalidate(&self.settings, domains);
    }

    /// [`get_or_load`](Self::get_or_load) for an entry with a ttl of its own that several things can invalidate.
    pub(crate) async fn get_or_load_in<L, F>(
        &self,
        cancellation: &impl Cancellation,
        key: K,
        domains: &[u64],
        ttl: Duration,
        load: L,
    ) -> Outcome<V, E>
    where
        L: FnOnce(Abandoned) -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (settings, shared) = (&self.settings, self.shared());
        if let Some(looked) = shared.look(settings, &key, domains) {
            match looked.verdict {
                Verdict::Fresh | Verdict::Held => return Ok(shared.hit(&looked)),
                Verdict::Due | Verdict::Stale => {
                    shared.refresh(settings, key, &Plan { domains, ttl, reason: Reason::Refresh }, load);
                    return Ok(shared.hit(&looked));
                }
                Verdict::Fallback | Verdict::Dead => {}
            }
        }
        if let Some(error) = shared.find_failure(settings, &key, domains) {
            return Err(error);
        }
        if cancellation.is_cancelled() {
            return Err(E::cancelled());
        }
        // On the heap, so that a hit has no load to carry along.
        Box::pin(async move {
            let plan = Plan { domains, ttl, reason: Reason::Asked };
            let joined = shared.flights.join(
                key,
                || shared.generations.stamp(domains),
                // A load may have ended between the look above and the one under the lock.
                |key| shared.find(settings, key, domains),
                |begun| {
                    let source = load(begun.abandoned.clone());
                    shared.load(settings, begun, &plan, source)
                },
            );
            match joined {
                Either::Left(hit) => Ok(hit),
                Either::Right(waiter) => self.wait(cancellation, waiter).await,
            }
        })
        .await
    }

    /// [`refresh`](Self::refresh) for an entry with a ttl of its own that several things can invalidate.
    pub(crate) async fn refresh_in<L, F>(
        &self,
        cancellation: &impl Cancellation,
        key: K,
        domains: &[u64],
        ttl: Duration,
        load: L,
    ) -> Outcome<V, E>
    where
        L: FnOnce(Abandoned) -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (settings, shared) = (&self.settings, self.shared());
        let plan = Plan { domains, ttl, reason: Reason::Forced };
        let waiter = shared.flights.supersede(
            key,
            || shared.generations.stamp(domains),
            |begun| {
                let source = load(begun.abandoned.clone());
                shared.load(settings, begun, &plan, source)
            },
        );
        self.wait(cancellation, waiter).await
    }

    async fn wait(&self, cancellation: &impl Cancellation, mut waiter: Waiter<Outcome<V, E>>) -> Outcome<V, E> {
        self.shared().counts.misses.add();
        match select(pin!(waiter.outcome()), pin!(cancelled(cancellation))).await {
            Either::Left((outcome, _)) => outcome.unwrap_or_else(|| Err(E::lost())),
            Either::Right(((), _)) => Err(E::cancelled()),
        }
    }

    /// What invalidates exactly one key.
    fn domain(&self, key: &K) -> u64 {
        let mut hasher = DomainHasher::default();
        match &self.settings.level {
            None => key.hash(&mut hasher),
            // Of what is written, since it is the same on every replica. Writing to a hash does not fail; a key that cannot be
            // written is in no second level.
            Some(level) => drop((level.codec.key)(key, &mut hasher)),
        }
        hasher.finish()
    }

    pub(super) fn domains(&self, key: &K) -> OfEntry<1> {
        let domain = self.domain(key);
        match &self.settings.tags {
            None => OfEntry::Plain([domain]),
            Some(tags) => {
                let mut domains = tags(key);
                domains.push(domain);
                OfEntry::Tagged(domains)
            }
        }
    }

    fn shared(&self) -> &Arc<Shared<K, V, E>> {
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
