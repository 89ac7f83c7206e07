use std::sync::Arc;
use std::time::Duration;

use super::link::LevelSettings;
use crate::ConfigError;
use crate::cached::first_level::entry::{Bounds, Life};
use crate::cached::first_level::freshness::Freshness;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::clock::is_too_short;

/// What a cache was told, behind an `Arc`, since a cache is cloned for each request.
pub(in crate::cached) struct Settings<K, V, E> {
    pub(in crate::cached) freshness: Freshness,
    pub(in crate::cached) idle_time: Option<Duration>,
    pub(in crate::cached) max_item_bytes: Option<u64>,
    pub(in crate::cached) load_timeout: Option<Duration>,
    pub(in crate::cached) negative: Option<Negative<E>>,
    pub(in crate::cached) tags: Option<Tags<K>>,
    pub(in crate::cached) level: Option<LevelSettings<K, V>>,
    /// How long an entry is kept without asking the second level.
    pub(in crate::cached) first_level_ttl: Duration,
    /// The same, while invalidations are not heard.
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
    pub(in crate::cached) fn life(&self, ttl: Duration, cost: Duration) -> Life {
        let fresh = self.freshness.draw(ttl);
        Life { age: Duration::ZERO, fresh, end: fresh.saturating_add(self.freshness.grace()), cost }
    }

    /// What a value weighs, or `None` where it is too large to be kept.
    pub(in crate::cached) fn weigh(&self, key: &K, value: &V) -> Option<u32> {
        let bytes = self.bounds.measure(key, value);
        self.max_item_bytes.is_none_or(|max| bytes <= max).then(|| self.bounds.weigh(bytes))
    }

    pub(in crate::cached) fn check(&self, layer: &'static str) -> Result<(), ConfigError> {
        let refuse = |setting, reason: &str| Err(ConfigError::invalid(layer, setting, reason));
        if self.freshness.ttl.is_zero() {
            return refuse("with_ttl", "a ttl of zero keeps nothing: make it longer");
        }
        if self.idle_time.is_some_and(|time| time.is_zero()) {
            return refuse("with_idle_time", "an idle time of zero keeps nothing: leave it out, or make it longer");
        }
        if self.load_timeout.is_some_and(is_too_short) {
            let reason = "it must be at least a millisecond: use a longer timeout, or `without_load_timeout`";
            return refuse("with_load_timeout", reason);
        }
        if !(0.0..1.0).contains(&self.freshness.jitter) {
            return refuse("with_ttl_jitter", "it is a share of the ttl: use a number from 0.0 to below 1.0");
        }
        if self.freshness.early.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
            return refuse("with_early_refresh", "it is a factor above zero: use 1.0, or leave it out");
        }
        if self.negative.as_ref().is_some_and(|negative| negative.ttl.is_zero()) {
            return refuse("with_negative_ttl", "a ttl of zero keeps no failure: leave it out, or make it longer");
        }
        for (setting, time) in [
            ("with_first_level_ttl", self.first_level_ttl),
            ("with_unsubscribed_ttl", self.unsubscribed_ttl),
            ("with_second_level_timeout", self.second_level_timeout),
            ("with_lease", self.lease.unwrap_or(Duration::MAX)),
        ] {
            if is_too_short(time) {
                return refuse(setting, "it must be at least a millisecond: use a longer time");
            }
        }
        if self.bounds.max_entries == 0 {
            return refuse(
                "with_max_entries",
                "a cache of 0 entries keeps nothing: leave the layer out, or allow more",
            );
        }
        match self.bounds.bytes {
            Some((max, _)) if self.max_item_bytes.is_none_or(|item| item > max) || max == 0 => refuse(
                "with_max_bytes",
                "a result of the largest size allowed would not fit: allow more, or smaller results",
            ),
            _ => Ok(()),
        }
    }
}
