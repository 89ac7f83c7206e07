//! The settings of [`CachedTool`] beyond what is kept and for how long.

use std::time::Duration;

use super::layer::{CachedTool, Results};
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
    /// second, without calling it.
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
            results.with_negative_ttl(ttl, move |failed| {
                outcome::failure(&failed.0).and_then(|failure| failure.kind()).is_some_and(|kind| kinds.contains(&kind))
            })
        })
    }

    pub(super) fn set_results(mut self, set: impl FnOnce(Results) -> Results) -> Self {
        self.results = set(self.results);
        self
    }
}
