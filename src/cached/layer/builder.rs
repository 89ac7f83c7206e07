//! The settings of [`CachedTool`] that hold for all that it keeps.

use std::sync::Arc;
use std::time::Duration;

use super::CachedTool;
use super::answer::entry_bytes;
use super::call::Results;
use super::key::CallKey;
use crate::cached::cache::link::{Codec, LevelSettings};
use crate::cached::second_level::SecondLevel;
use crate::outcome::ErrorKind;
use crate::{Identity, Scope};

impl CachedTool {
    /// Sets how long a result is kept.
    pub fn with_ttl(self, ttl: Duration) -> Self {
        self.set_results(|results| results.with_ttl(ttl))
    }

    /// Sets how long the results of one tool are kept.
    pub fn with_ttl_for(mut self, tool: impl Into<String>, ttl: Duration) -> Self {
        self.settings_mut().ttls.insert(tool.into(), ttl);
        self
    }

    /// Drops a result that nobody asked for during `idle_time`, before its ttl ends.
    pub fn with_idle_time(self, idle_time: Duration) -> Self {
        self.set_results(|results| results.with_idle_time(idle_time))
    }

    /// Sets who shares a result: by default each user has their own.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().scope = scope;
        self
    }

    /// Sets who shares the results of one tool.
    pub fn with_scope_for(mut self, tool: impl Into<String>, scope: Scope) -> Self {
        self.settings_mut().scopes.insert(tool.into(), scope);
        self
    }

    /// Keeps results apart from those of servers in another namespace on the same [second level](Self::with_second_level), such as
    /// `staging` and `production`. The server's name keeps them apart as well. Replicas share results only if they have the same
    /// namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings_mut().namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are told apart, each of whom has results of their own, for each set of rights. Give
    /// all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings_mut().identity = identity;
        self
    }

    /// Keeps results apart from those of another version of the server.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.settings_mut().version = version.into();
        self
    }

    /// Bounds the number of results. The cache starts anew: take its [`handle`](Self::handle) afterwards.
    pub fn with_max_entries(self, max_entries: u64) -> Self {
        self.set_results(|results| results.with_max_entries(max_entries))
    }

    /// Bounds the bytes of all results, as JSON, with half a kilobyte on top for each. The cache starts anew: take its
    /// [`handle`](Self::handle) afterwards.
    ///
    /// A result counts for `max_bytes / max_entries` at least: so one bound keeps both.
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        self.set_results(|results| results.with_max_bytes(max_bytes, entry_bytes))
    }

    /// Passes on, but does not keep, a result above `max_result_bytes`, its key and half a kilobyte included.
    pub fn with_max_result_bytes(self, max_result_bytes: u64) -> Self {
        self.set_results(|results| results.with_max_item_bytes(max_result_bytes))
    }

    /// Gives a call to the tool up after `timeout`, with an error to all who wait for it.
    pub fn with_load_timeout(self, timeout: Duration) -> Self {
        self.set_results(|results| results.with_load_timeout(timeout))
    }

    /// Lets calls to the tool take as long as they take.
    pub fn without_load_timeout(self) -> Self {
        self.set_results(Results::without_load_timeout)
    }

    /// Says nothing in the `_meta` of results.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().tells = false;
        self
    }

    /// Shortens each ttl by chance, by up to this share of it (0.1 for a tenth): results that were computed together are not
    /// computed again together.
    pub fn with_ttl_jitter(self, share: f64) -> Self {
        self.set_results(|results| results.with_ttl_jitter(share))
    }

    /// Serves a result for this long after its ttl, while it is computed anew in the background: by one call for each set of
    /// arguments and caller.
    ///
    /// A refresh that fails is tried again after a second at the earliest. If its failure is an answer ("not found", "not
    /// permitted") and no outage, the result is dropped.
    pub fn with_stale_while_revalidate(self, window: Duration) -> Self {
        self.set_results(|results| results.with_stale_while_revalidate(window))
    }

    /// Serves a result for this long after its ttl where the tool fails temporarily or with an internal error; for the next
    /// second, without calling it. And while another replica calls it, where there is a [lease](Self::with_lease).
    pub fn with_stale_if_error(self, window: Duration) -> Self {
        self.set_results(|results| results.with_stale_if_error(window))
    }

    /// Refreshes a result in the background before its ttl ends: by chance, the likelier the nearer the end is and the longer
    /// the tool takes. 1.0 is a good factor; see [`Cache::with_early_refresh`](crate::cached::Cache::with_early_refresh).
    pub fn with_early_refresh(self, factor: f64) -> Self {
        self.set_results(|results| results.with_early_refresh(factor))
    }

    /// Keeps failures of these kinds for `ttl`: up to 1,000, in this process. A later success ends one. Use it for failures that
    /// are answers, such as [`ErrorKind::ResourceNotFound`].
    ///
    /// With a second level, a failure is trusted for no longer than a result: for the
    /// [first level's ttl](Self::with_first_level_ttl) at most.
    pub fn with_negative_ttl(self, kinds: impl IntoIterator<Item = ErrorKind>, ttl: Duration) -> Self {
        let kinds: Vec<_> = kinds.into_iter().collect();
        self.set_results(|results| {
            results.with_negative_ttl(ttl, move |unkept| {
                unkept.failure().and_then(|failure| failure.kind()).is_some_and(|kind| kinds.contains(&kind))
            })
        })
    }

    /// Shares results with other replicas of the server through `level`. The cache starts anew: take its
    /// [`handle`](Self::handle) afterwards.
    ///
    /// See [what that means](crate::cached#a-second-level).
    pub fn with_second_level(self, level: impl SecondLevel) -> Self {
        let level = LevelSettings {
            level: Arc::new(level),
            name: "answers".to_owned(),
            codec: Codec {
                key: |key: &CallKey, to| to.write_all(key.as_bytes()),
                encode: |answer| serde_json::to_vec(answer).ok(),
                decode: |bytes| serde_json::from_slice(bytes).ok(),
            },
        };
        self.set_results(|results| results.with_level(level))
    }

    /// Sets how long a result is served without asking the second level again. Default: 30 s.
    pub fn with_first_level_ttl(self, ttl: Duration) -> Self {
        self.set_results(|results| results.with_first_level_ttl(ttl))
    }

    /// The same, while invalidations of other replicas are not heard: the connection is lost, or the level has no way to tell of
    /// them. Default: 1 s.
    pub fn with_unsubscribed_ttl(self, ttl: Duration) -> Self {
        self.set_results(|results| results.with_unsubscribed_ttl(ttl))
    }

    /// Sets how long each step of the second level may take. Default: 50 ms.
    pub fn with_second_level_timeout(self, timeout: Duration) -> Self {
        self.set_results(|results| results.with_second_level_timeout(timeout))
    }

    /// Lets one replica at a time make a call. The others serve the result they have, here or in the second level, if it is within
    /// [one](Self::with_stale_while_revalidate) of the [windows](Self::with_stale_if_error) after its ttl; or they wait, for as
    /// long as `lease` at most, after which they make the call themselves. So does one whose second level does not answer.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.set_results(|results| results.with_lease(lease))
    }

    pub(in crate::cached) fn set_results(mut self, set: impl FnOnce(Results) -> Results) -> Self {
        self.results = set(self.results);
        self
    }
}
