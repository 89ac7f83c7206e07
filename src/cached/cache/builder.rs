//! How a [`Cache`] is set up.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::error::LoadError;
use super::settings::{Codec, LevelSettings, Negative, Settings, cache_setters};
use crate::ConfigError;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::SecondLevel;

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    cache_setters!(|this| this.settings_mut());

    /// Keeps the failures for which `includes` returns true, for `ttl`: up to 1,000, in this process. A later success replaces one. Use
    /// it for failures that are answers, such as "not found".
    ///
    /// With a second level, a failure is served for no longer than the [first level's ttl](Self::with_first_level_ttl), like a value.
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

    /// Bounds the number of values. The cache starts again empty, and no longer shares its entries with its clones.
    pub fn with_max_entries(self, max_entries: usize) -> Self {
        self.set_anew(|settings| settings.bounds.max_entries = max_entries)
    }

    /// Bounds the bytes of all values, each of them measured by `size_of`. The cache starts again empty, and no longer shares its
    /// entries with its clones.
    ///
    /// A value counts as `max_bytes / max_entries` at least, so that this bound keeps the other one too.
    pub fn with_max_bytes(self, max_bytes: usize, size_of: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Self {
        self.set_anew(|settings| settings.bounds.bytes = Some((max_bytes, Arc::new(size_of))))
    }

    /// Passes on, but does not keep, a value above `max_item_bytes`. It has an effect only with
    /// [`with_max_bytes`](Self::with_max_bytes), which measures values.
    pub fn with_max_item_bytes(self, max_item_bytes: usize) -> Self {
        self.set(|settings| settings.max_item_bytes = Some(max_item_bytes))
    }

    /// Shares values with other replicas through `level`. `name` is the name of this cache: caches that share a level need different
    /// names. Keys and values are encoded as JSON. The cache starts again empty, and no longer shares its entries with its clones.
    ///
    /// See [the manual](crate::cached#a-second-level).
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

    pub(crate) fn ttl(&self) -> Duration {
        self.loader.state.settings.freshness.ttl
    }

    pub(crate) fn max_item_bytes(&self) -> Option<usize> {
        self.loader.state.settings.max_item_bytes
    }

    /// Checks the settings. A [`CachedTool`](crate::cached::CachedTool) does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for the first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_as("Cache")
    }

    /// Checks the settings for the layer of this name.
    pub(crate) fn check_as(&self, layer: &'static str) -> Result<(), ConfigError> {
        self.loader.state.settings.check(layer)
    }

    pub(in crate::cached) fn settings(&self) -> &Settings<K, V, E> {
        &self.loader.state.settings
    }

    pub(in crate::cached) fn settings_mut(&mut self) -> &mut Settings<K, V, E> {
        Arc::make_mut(&mut self.loader.state.settings)
    }

    fn set(mut self, set: impl FnOnce(&mut Settings<K, V, E>)) -> Self {
        set(self.settings_mut());
        self
    }

    /// Changes settings that the state of the cache is created from.
    fn set_anew(self, set: impl FnOnce(&mut Settings<K, V, E>)) -> Self {
        let mut settings = Settings::clone(&self.loader.state.settings);
        set(&mut settings);
        Self::with_settings(settings)
    }
}
