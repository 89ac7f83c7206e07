//! How a [`Cache`] is set up.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::error::LoadError;
use super::link::{Codec, LevelSettings};
use super::settings::{Negative, Settings};
use crate::ConfigError;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::SecondLevel;

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
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
    /// [allows](LoadError::allows_stale) that; for the next second, without trying to load it. And while another replica loads
    /// it, where there is a [lease](Self::with_lease).
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

    /// Keeps the failures that `includes` says yes to, for `ttl`: up to 1,000, in this process. A later success ends one. Use it for
    /// failures that are answers, such as "not found".
    ///
    /// With a second level, a failure is trusted for no longer than a value: for the
    /// [first level's ttl](Self::with_first_level_ttl) at most.
    pub fn with_negative_ttl(self, ttl: Duration, includes: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.negative = Some(Negative { ttl, includes: Arc::new(includes) }))
    }

    /// Tags values by their keys, so that they can be [invalidated](Self::invalidate_tag) together.
    pub fn with_tags<T>(self, tags: impl Fn(&K) -> T + Send + Sync + 'static) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
    {
        let tags = move |key: &K| tags(key).into_iter().map(|tag| InvalidationKey::of_tag(tag.as_ref())).collect();
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
    /// See [what that means](crate::cached#a-second-level).
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

    pub(in crate::cached) fn with_level(self, level: LevelSettings<K, V>) -> Self {
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

    /// Lets one replica at a time load a value. The others serve the one they have, here or in the second level, if it is within
    /// [one](Self::with_stale_while_revalidate) of the [windows](Self::with_stale_if_error) after its ttl; or they wait, for as
    /// long as `lease` at most, after which they load it themselves. So does one whose second level does not answer.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.set(|settings| settings.lease = Some(lease))
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.settings.freshness.ttl
    }

    pub(crate) fn max_item_bytes(&self) -> Option<u64> {
        self.settings.max_item_bytes
    }

    /// Checks the settings. A [`CachedTool`](crate::cached::CachedTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a cache that could keep nothing, load nothing or refresh nothing.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.settings.check("CachedTool")
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
}
