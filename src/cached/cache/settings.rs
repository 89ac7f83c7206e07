use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ConfigError;
use crate::cached::ZERO;
use crate::cached::first_level::entry::{Bounds, Entry, Lifetime, Policy};
use crate::cached::first_level::freshness::Freshness;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::SecondLevel;
use crate::clock::is_too_short;

/// The settings of a cache, behind an `Arc`, since a cache is cloned for each request.
pub(in crate::cached) struct Settings<K, V, E> {
    pub(in crate::cached) freshness: Freshness,
    pub(in crate::cached) idle_time: Option<Duration>,
    pub(in crate::cached) max_item_bytes: Option<usize>,
    pub(in crate::cached) load_timeout: Option<Duration>,
    pub(in crate::cached) negative: Option<Negative<E>>,
    pub(in crate::cached) tags: Option<Tags<K>>,
    pub(in crate::cached) level: Option<LevelSettings<K, V>>,
    /// How long an entry is kept without asking the second level.
    pub(in crate::cached) first_level_ttl: Duration,
    /// The same, while invalidations do not arrive.
    pub(in crate::cached) unsubscribed_ttl: Duration,
    pub(in crate::cached) second_level_timeout: Duration,
    pub(in crate::cached) lease: Option<Duration>,
    pub(in crate::cached) bounds: Bounds<K, V>,
}

/// The invalidation keys of a key's tags.
pub(in crate::cached) type Tags<K> = Arc<dyn Fn(&K) -> Vec<InvalidationKey> + Send + Sync>;

/// Which failures are kept, and for how long.
#[derive(Clone)]
pub(in crate::cached) struct Negative<E> {
    pub(in crate::cached) ttl: Duration,
    pub(in crate::cached) includes: Arc<dyn Fn(&E) -> bool + Send + Sync>,
}

impl<K, V, E> Default for Settings<K, V, E> {
    fn default() -> Self {
        let none = Duration::ZERO;
        let ttl = Duration::from_secs(300);
        Self {
            freshness: Freshness { ttl, jitter: 0.0, while_revalidate: none, if_error: none, early: None },
            idle_time: None,
            max_item_bytes: None,
            load_timeout: Some(Duration::from_secs(300)),
            negative: None,
            tags: None,
            level: None,
            first_level_ttl: Duration::from_secs(30),
            unsubscribed_ttl: Duration::from_secs(1),
            second_level_timeout: Duration::from_millis(50),
            lease: None,
            bounds: Bounds { max_entries: 10_000, bytes: None },
        }
    }
}

impl<K, V, E: Clone> Clone for Settings<K, V, E> {
    fn clone(&self) -> Self {
        let (negative, tags) = (self.negative.clone(), self.tags.clone());
        Self { bounds: self.bounds.clone(), level: self.level.clone(), negative, tags, ..*self }
    }
}

impl<K, V, E> Settings<K, V, E> {
    /// The times of a value that was just loaded.
    pub(in crate::cached) fn lifetime(&self, ttl: Duration, cost: Duration) -> Lifetime {
        let fresh = self.freshness.draw(ttl);
        Lifetime { age: Duration::ZERO, fresh, end: fresh.saturating_add(self.freshness.grace()), cost }
    }

    /// The rules by which entries are served, each for as long as `trust` without asking the second level.
    pub(in crate::cached) fn policy(&self, trust: Duration) -> Policy<'_> {
        Policy { freshness: &self.freshness, idle_time: self.idle_time, trust }
    }

    /// The weight of a value, or `None` where it is too large to be kept.
    pub(in crate::cached) fn weigh(&self, key: &K, value: &V) -> Option<u32> {
        let bytes = self.bounds.measure(key, value);
        self.max_item_bytes.is_none_or(|max| bytes <= max).then(|| self.bounds.weigh(bytes))
    }

    /// The entry of a value, or `None` where it is too large to be kept.
    pub(in crate::cached) fn entry(&self, key: &K, value: &V, stamp: u64, lifetime: Lifetime) -> Option<Arc<Entry<V>>>
    where
        V: Clone,
    {
        let weight = self.weigh(key, value)?;
        Some(Arc::new(Entry::new(value.clone(), stamp, lifetime, weight)))
    }

    pub(in crate::cached) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |setting, reason: &str| Err(ConfigError::invalid(layer, setting, reason));
        let or = |time: Option<Duration>| time.unwrap_or(Duration::MAX);
        for (setting, time) in [
            ("with_ttl", self.freshness.ttl),
            ("with_idle_time", or(self.idle_time)),
            ("with_negative_ttl", or(self.negative.as_ref().map(|negative| negative.ttl))),
        ] {
            if time.is_zero() {
                return refuse(setting, ZERO);
            }
        }
        for (setting, time) in [
            ("with_load_timeout", or(self.load_timeout)),
            ("with_first_level_ttl", self.first_level_ttl),
            ("with_unsubscribed_ttl", self.unsubscribed_ttl),
            ("with_second_level_timeout", self.second_level_timeout),
            ("with_lease", or(self.lease)),
        ] {
            if is_too_short(time) {
                return refuse(setting, "must be at least a millisecond");
            }
        }
        if !(0.0..1.0).contains(&self.freshness.jitter) {
            return refuse("with_ttl_jitter", "must be a share of the ttl, from 0.0 to below 1.0");
        }
        if self.freshness.early.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
            return refuse("with_early_refresh", "must be a finite number that is greater than zero");
        }
        if self.bounds.max_entries == 0 {
            return refuse("with_max_entries", ZERO);
        }
        if let Some((max, _)) = self.bounds.bytes {
            if max == 0 {
                return refuse("with_max_bytes", ZERO);
            }
            if self.max_item_bytes.is_none_or(|item| item > max) {
                let reason = "must be at least the size of the largest value that is kept: raise it, or lower that";
                return refuse("with_max_bytes", reason);
            }
        }
        self.level.as_ref().map_or(Ok(()), |settings| settings.level.check())
    }
}

/// The setters that the engine and the layer share. `$settings` are the [`Settings`] of `$this`.
macro_rules! cache_setters {
    (|$this:ident| $settings:expr) => {
        /// Sets how long an entry is kept after it was loaded.
        pub fn with_ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.freshness.ttl = ttl;
            self
        }

        /// Shortens each ttl at random, by up to this share of it (0.1 for a tenth): entries that were loaded together do not expire
        /// together.
        pub fn with_ttl_jitter(mut self, share: f64) -> Self {
            let $this = &mut self;
            $settings.freshness.jitter = share;
            self
        }

        /// Drops an entry that no caller read during `idle_time`, before its ttl ends.
        pub fn with_idle_time(mut self, idle_time: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.idle_time = Some(idle_time);
            self
        }

        /// Serves an entry for this long after its ttl, while one load refreshes it in the background. The load has the
        /// [load timeout](Self::with_load_timeout) and ends when the last clone of the cache is dropped.
        ///
        /// A refresh that fails is tried again after a second at the earliest. If its failure is an answer ("not found", "not
        /// permitted") and no outage, the entry is dropped: [`LoadError::allows_stale`](crate::cached::LoadError::allows_stale) decides.
        pub fn with_stale_while_revalidate(mut self, window: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.freshness.while_revalidate = window;
            self
        }

        /// Serves an entry for this long after its ttl if the load fails temporarily or with an internal error
        /// ([`LoadError::allows_stale`](crate::cached::LoadError::allows_stale) decides); for the next second, without another load.
        /// With a [lease](Self::with_lease), it also serves the entry while another replica loads it.
        pub fn with_stale_if_error(mut self, window: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.freshness.if_error = window;
            self
        }

        /// Refreshes an entry in the background before its ttl ends, at random: more likely near the end, and for loads that take
        /// long. 1.0 is a good factor; a larger one refreshes earlier.
        ///
        /// This is [XFetch](https://www.vldb.org/pvldb/vol8/p886-vattani.pdf). An entry that is read often never expires, and no entry
        /// is served past its ttl.
        pub fn with_early_refresh(mut self, factor: f64) -> Self {
            let $this = &mut self;
            $settings.freshness.early = Some(factor);
            self
        }

        /// Ends a load after `timeout`, with an error for all callers who wait for it. Default: 5 minutes.
        pub fn with_load_timeout(mut self, timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.load_timeout = Some(timeout);
            self
        }

        /// Lets loads take any time.
        pub fn without_load_timeout(mut self) -> Self {
            let $this = &mut self;
            $settings.load_timeout = None;
            self
        }

        /// Sets how long an entry is served without asking the second level again. Default: 30 s.
        pub fn with_first_level_ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.first_level_ttl = ttl;
            self
        }

        /// Sets the same for the time in which invalidations of other replicas do not arrive: the connection is lost, or the level has
        /// no subscriptions. Default: 1 s.
        pub fn with_unsubscribed_ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.unsubscribed_ttl = ttl;
            self
        }

        /// Sets how long each step of the second level may take. Default: 50 ms.
        pub fn with_second_level_timeout(mut self, timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.second_level_timeout = timeout;
            self
        }

        /// Lets one replica at a time load an entry. The others serve the one they have, here or in the second level, if it is within
        /// [one](Self::with_stale_while_revalidate) of the [windows](Self::with_stale_if_error) after its ttl; or they wait, for
        /// `lease` at most, and then load it themselves. A replica whose second level does not answer loads at once.
        pub fn with_lease(mut self, lease: std::time::Duration) -> Self {
            let $this = &mut self;
            $settings.lease = Some(lease);
            self
        }
    };
}
pub(in crate::cached) use cache_setters;

/// How keys and values are encoded for a second level.
pub(in crate::cached) struct Codec<K, V> {
    pub(in crate::cached) key: fn(&K, &mut dyn std::io::Write) -> std::io::Result<()>,
    pub(in crate::cached) encode: fn(&V) -> Option<Vec<u8>>,
    pub(in crate::cached) decode: fn(&[u8]) -> Option<V>,
}

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Codec<K, V> {}

/// The second level of a cache.
pub(in crate::cached) struct LevelSettings<K, V> {
    pub(in crate::cached) level: Arc<dyn SecondLevel>,
    /// The name of this cache among those that share the level.
    pub(in crate::cached) name: String,
    pub(in crate::cached) codec: Codec<K, V>,
}

impl<K, V> Clone for LevelSettings<K, V> {
    fn clone(&self) -> Self {
        Self { level: Arc::clone(&self.level), name: self.name.clone(), codec: self.codec }
    }
}

impl<K, V> fmt::Debug for LevelSettings<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelSettings").field("name", &self.name).finish_non_exhaustive()
    }
}
