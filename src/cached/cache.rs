use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;
use turbomcp_core::McpError;

use super::flight::Flights;
use super::generations::Generations;
use super::store::{Bounds, Slot, Store};
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
    settings: Settings<K, V>,
    shared: Arc<Shared<K, V, E>>,
}

struct Settings<K, V> {
    ttl: Duration,
    idle_time: Option<Duration>,
    max_item_bytes: Option<u64>,
    load_timeout: Option<Duration>,
    bounds: Bounds<K, V>,
}

struct Shared<K, V, E> {
    store: Store<K, V>,
    flights: Flights<K, Result<V, E>>,
    generations: Generations,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
    failed_loads: AtomicU64,
}

/// How a cache is doing, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls answered from the cache.
    pub hits: u64,
    /// Calls that waited for a load, their own or one under way.
    pub misses: u64,
    /// Loads begun. Fewer than the misses where callers shared one.
    pub loads: u64,
    /// Loads that failed, were given up, or ended without a result that may be kept.
    pub failed_loads: u64,
    /// Entries held. Those invalidated by tool count until their place is needed.
    pub entries: u64,
    /// What the entries weigh against the bound: their bytes, each its share of the bound at least, where bytes are bounded;
    /// one each where not.
    pub weight: u64,
}

/// An error that can say that a load came to nothing. [`McpError`] can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a cached load",
    note = "map it to `turbomcp::McpError`, or implement `mcp_patterns::cached::LoadError` for a type of your own"
)]
pub trait LoadError: Clone + Send + Sync + 'static {
    /// The load took longer than the cache allows.
    fn timed_out(after: Duration) -> Self;
    /// The load panicked, or its runtime shut down.
    fn lost() -> Self;
    /// The caller was cancelled while it waited.
    fn cancelled() -> Self;
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Hit { age: Duration },
    Load,
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Keeps up to 10,000 values for five minutes each.
    pub fn new() -> Self {
        Self::with_settings(Settings {
            ttl: Duration::from_secs(300),
            idle_time: None,
            max_item_bytes: None,
            load_timeout: Some(Duration::from_secs(300)),
            bounds: Bounds { max_entries: 10_000, bytes: None },
        })
    }

    fn with_settings(settings: Settings<K, V>) -> Self {
        let shared = Shared {
            store: Store::new(&settings.bounds),
            flights: Flights::default(),
            generations: Generations::default(),
            counts: Counts::default(),
        };
        Self { settings, shared: Arc::new(shared) }
    }

    /// Sets how long a value is kept after it was loaded.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// Drops a value that nobody asked for during `idle_time`, before its ttl ends.
    pub fn with_idle_time(mut self, idle_time: Duration) -> Self {
        self.settings.idle_time = Some(idle_time);
        self
    }

    /// Bounds the number of values. The cache starts anew, and empty.
    pub fn with_max_entries(mut self, max_entries: u64) -> Self {
        self.settings.bounds.max_entries = max_entries;
        Self::with_settings(self.settings)
    }

    /// Bounds the bytes of all values, each of them measured by `size_of`. The cache starts anew, and empty.
    ///
    /// A value counts for `max_bytes / max_entries` at least: so one bound keeps both.
    pub fn with_max_bytes(mut self, max_bytes: u64, size_of: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.settings.bounds.bytes = Some((max_bytes, Arc::new(size_of)));
        Self::with_settings(self.settings)
    }

    /// Passes on, but does not keep, a value above `max_item_bytes`. Counts where [`with_max_bytes`](Self::with_max_bytes)
    /// says how to measure.
    pub fn with_max_item_bytes(mut self, max_item_bytes: u64) -> Self {
        self.settings.max_item_bytes = Some(max_item_bytes);
        self
    }

    /// Gives a load up after `timeout`, with an error to all who wait.
    pub fn with_load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = Some(timeout);
        self
    }

    /// Lets loads take as long as they take.
    pub fn without_load_timeout(mut self) -> Self {
        self.settings.load_timeout = None;
        self
    }

    /// Returns the value of `key`, or `None` where none is fresh.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        let stamp = self.shared.generations.stamp(&[domain(key)]);
        let slot = self.fresh(key, stamp, Instant::now())?;
        self.shared.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some(slot.value.clone())
    }

    /// Returns the value of `key`, loading it where none is fresh. All who ask at the same time share one load.
    ///
    /// A `cancellation` (the tool's `&RequestContext`, or `&()`) ends the wait within 50 ms.
    ///
    /// # Errors
    ///
    /// The error of the load, to all who wait for it; it is not kept. And what [`LoadError`] names.
    pub async fn get_or_load<L, F>(&self, cancellation: &impl Cancellation, key: K, load: L) -> Result<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let domains = [domain(&key)];
        self.get_or_load_in(cancellation, key, &domains, self.settings.ttl, |_| load()).await.map(|(value, _)| value)
    }

    /// Keeps `value` from now on, whatever a load under way comes to.
    pub fn insert(&self, key: K, value: V) {
        let domain = domain(&key);
        self.shared.generations.advance(domain);
        let stamp = self.shared.generations.stamp(&[domain]);
        self.settings.keep(&self.shared.store, key, &value, self.settings.ttl, stamp);
    }

    /// Forgets the value of `key`. A load under way is not kept, and not served to anyone who asks from now on.
    pub fn invalidate(&self, key: &K) {
        self.invalidate_domain(domain(key));
        self.shared.store.remove(key);
    }

    /// Forgets everything, like [`invalidate`](Self::invalidate) for all keys.
    pub fn clear(&self) {
        self.shared.generations.advance_all();
        self.shared.store.clear();
    }

    /// Says how the cache is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let (entries, weight) = self.shared.store.size(&self.settings.bounds);
        Stats {
            hits: counts.hits.load(Ordering::Relaxed),
            misses: counts.misses.load(Ordering::Relaxed),
            loads: counts.loads.load(Ordering::Relaxed),
            failed_loads: counts.failed_loads.load(Ordering::Relaxed),
            entries,
            weight,
        }
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    pub(crate) fn max_item_bytes(&self) -> Option<u64> {
        self.settings.max_item_bytes
    }

    /// Forgets all entries that were stored in `domain`.
    pub(crate) fn invalidate_domain(&self, domain: u64) {
        self.shared.generations.advance(domain);
    }

    /// [`get_or_load`](Self::get_or_load) for an entry with a ttl of its own that several things can invalidate.
    pub(crate) async fn get_or_load_in<L, F>(
        &self,
        cancellation: &impl Cancellation,
        key: K,
        domains: &[u64],
        ttl: Duration,
        load: L,
    ) -> Result<(V, Source), E>
    where
        L: FnOnce(Abandoned) -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(hit) = self.find(&key, domains) {
            return Ok(hit);
        }
        if cancellation.is_cancelled() {
            return Err(E::cancelled());
        }
        // On the heap, so that a hit has no load to carry along.
        Box::pin(async move {
            let shared = &self.shared;
            let joined = shared.flights.join(
                key,
                || shared.generations.stamp(domains),
                // A load may have ended between the look above and the one under the lock.
                |key| self.find(key, domains),
                |key, stamp, abandoned| self.load(key, stamp, domains, ttl, abandoned.clone(), load(abandoned)),
            );
            let mut waiter = match joined {
                Either::Left(hit) => return Ok(hit),
                Either::Right(waiter) => waiter,
            };
            shared.counts.misses.fetch_add(1, Ordering::Relaxed);
            match select(pin!(waiter.outcome()), pin!(cancelled(cancellation))).await {
                Either::Left((outcome, _)) => {
                    outcome.unwrap_or_else(|| Err(E::lost())).map(|value| (value, Source::Load))
                }
                Either::Right(((), _)) => Err(E::cancelled()),
            }
        })
        .await
    }

    fn find(&self, key: &K, domains: &[u64]) -> Option<(V, Source)> {
        let now = Instant::now();
        let slot = self.fresh(key, self.shared.generations.stamp(domains), now)?;
        self.shared.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some((slot.value.clone(), Source::Hit { age: now - slot.stored }))
    }

    /// The body of a shared load.
    fn load<F>(
        &self,
        key: K,
        stamp: u64,
        domains: &[u64],
        ttl: Duration,
        abandoned: Abandoned,
        load: F,
    ) -> impl Future<Output = Result<V, E>> + Send + use<K, V, E, F>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (settings, shared, domains) = (self.settings.clone(), Arc::clone(&self.shared), domains.to_vec());
        shared.counts.loads.fetch_add(1, Ordering::Relaxed);
        let failed = CountFailure(Arc::clone(&shared), true);
        async move {
            let mut failed = failed;
            let outcome = match settings.load_timeout {
                None => load.await,
                Some(after) => tokio::time::timeout(after, load).await.unwrap_or_else(|_| {
                    abandoned.set();
                    Err(E::timed_out(after))
                }),
            };
            if let Ok(value) = &outcome {
                failed.1 = false;
                // After an invalidation, a newer load may have been kept already.
                if shared.generations.stamp(&domains) == stamp {
                    settings.keep(&shared.store, key, value, ttl, stamp);
                }
            }
            outcome
        }
    }

    fn fresh(&self, key: &K, stamp: u64, now: Instant) -> Option<Arc<Slot<V>>> {
        self.shared.store.get(key).filter(|slot| slot.is_fresh(stamp, now, self.settings.idle_time))
    }

    pub(crate) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |setting, reason| Err(ConfigError::invalid(layer, setting, reason));
        let settings = &self.settings;
        if settings.idle_time.is_some_and(|time| time.is_zero()) {
            return refuse("with_idle_time", "an idle time of zero keeps nothing: leave it out, or make it longer");
        }
        if settings.load_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return refuse(
                "with_load_timeout",
                "no load ends in no time: use a longer timeout, or `without_load_timeout`",
            );
        }
        if settings.bounds.max_entries == 0 {
            return refuse(
                "with_max_entries",
                "a cache of 0 entries keeps nothing: leave the layer out, or allow more",
            );
        }
        match settings.bounds.bytes {
            Some((max, _)) if settings.max_item_bytes.is_none_or(|item| item > max) || max == 0 => refuse(
                "with_max_bytes",
                "a result of the largest size allowed would not fit: allow more, or smaller results",
            ),
            _ => Ok(()),
        }
    }
}

impl<K, V> Settings<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn keep(&self, store: &Store<K, V>, key: K, value: &V, ttl: Duration, stamp: u64) {
        let bytes = self.bounds.measure(&key, value);
        if self.max_item_bytes.is_none_or(|max| bytes <= max) {
            let slot = Slot::new(value.clone(), stamp, ttl, self.bounds.weigh(bytes));
            store.put(key, slot);
        }
    }
}

/// Counts a load that ended in any way but a value: by an error, a panic, or being dropped.
struct CountFailure<K, V, E>(Arc<Shared<K, V, E>>, bool);

impl<K, V, E> Drop for CountFailure<K, V, E> {
    fn drop(&mut self) {
        if self.1 {
            self.0.counts.failed_loads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What invalidates exactly one key.
fn domain<K: Hash>(key: &K) -> u64 {
    foldhash::quality::FixedState::default().hash_one(key)
}

impl<K, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> Clone for Settings<K, V> {
    fn clone(&self) -> Self {
        Self { bounds: self.bounds.clone(), ..*self }
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
            .field("ttl", &self.settings.ttl)
            .field("idle_time", &self.settings.idle_time)
            .field("max_entries", &self.settings.bounds.max_entries)
            .finish_non_exhaustive()
    }
}
