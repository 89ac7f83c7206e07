//! The settings of [`CachedTool`] beyond what is kept and for how long.

use std::sync::Arc;
use std::time::Duration;

use super::key::CallKey;
use super::layer::{CachedTool, Results};
use super::level::SecondLevel;
use super::link::{Codec, LevelSettings};
use super::sessions::Unkept;
use crate::outcome::{self, ErrorKind};

impl CachedTool {
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
    /// the tool takes. 1.0 is a good factor; see [`Cache::with_early_refresh`](super::Cache::with_early_refresh).
    pub fn with_early_refresh(self, factor: f64) -> Self {
        self.set_results(|results| results.with_early_refresh(factor))
    }

    /// Keeps failures of these kinds for `ttl`: up to 1,000, in this process. Use it for failures that are answers, such as
    /// [`ErrorKind::ResourceNotFound`].
    pub fn with_negative_ttl(self, kinds: impl IntoIterator<Item = ErrorKind>, ttl: Duration) -> Self {
        let kinds: Vec<_> = kinds.into_iter().collect();
        self.set_results(|results| {
            results.with_negative_ttl(ttl, move |unkept| {
                let Unkept::Failed(failed) = unkept else { return false };
                outcome::failure(&failed.0).and_then(|failure| failure.kind()).is_some_and(|kind| kinds.contains(&kind))
            })
        })
    }

    /// Shares results with other replicas of the server through `level`. The cache starts anew: take its
    /// [`handle`](Self::handle) afterwards.
    ///
    /// See [what that means](super#a-second-level).
    pub fn with_second_level(self, level: impl SecondLevel) -> Self {
        let level = LevelSettings {
            level: Arc::new(level),
            name: "tools".to_owned(),
            codec: Codec {
                key: |key: &CallKey, to| to.write_all(key.as_bytes()),
                encode: |result| serde_json::to_vec(result).ok(),
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

    pub(super) fn set_results(mut self, set: impl FnOnce(Results) -> Results) -> Self {
        self.results = set(self.results);
        self
    }
}
