//! Loads values before the first caller asks for them.

use std::fmt;
use std::future::{Future, ready};
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::pin::pin;

use futures_util::future::select;
use futures_util::{FutureExt, StreamExt, stream};
use turbomcp_core::{McpError, McpResult};

use super::Cache;
use super::error::LoadError;
use super::load::Source;
use crate::ConfigError;
use crate::cached::ZERO;
use crate::cancellation::{Cancellation, cancelled};
use crate::shared_work::Anybody;

/// The report of a warm-up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// How many values were loaded.
    pub loaded: usize,
    /// How many were present already, in this process or in the second level.
    pub present: usize,
    /// The keys that failed, in the order in which they failed.
    pub failed: Vec<NotWarmed>,
}

/// A key that a warm-up could not load.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotWarmed {
    /// The key in its `Debug` form. For a call: the tool and its arguments.
    pub key: String,
    /// Why it failed.
    pub error: String,
}

/// How many failures are logged one by one, and named in an error.
const NAMED: usize = 10;

impl Warmed {
    /// Returns an error if anything failed, for a start that needs every value: `cache.warm(..).await?.complete()?`.
    ///
    /// # Errors
    ///
    /// `unavailable`, with the keys that failed and why: up to ten of them.
    pub fn complete(self) -> McpResult<Self> {
        if self.failed.is_empty() {
            return Ok(self);
        }
        let (missing, all) = (self.failed.len(), self.done());
        let named: Vec<_> = self.failed.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match missing.saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Err(McpError::unavailable(format!("the cache lacks {missing} of {all}: {}{more}", named.join("; "))))
    }

    fn done(&self) -> usize {
        self.loaded + self.present + self.failed.len()
    }
}

impl fmt::Display for NotWarmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.error)
    }
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Loads the values of those `keys` that are not present, up to `concurrency` at a time.
    ///
    /// A `cancellation` (a tool's `&RequestContext`, or `&()`) ends it within 50 ms. See [warming](crate::cached#warming).
    ///
    /// ```
    /// use mcp_patterns::cached::Cache;
    /// use turbomcp::McpError;
    ///
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rates = Cache::<&str, f64>::new();
    /// let fetch = |currency| async move {
    ///     if currency == "EUR" {
    ///         Ok(1.0)
    ///     } else {
    ///         Err(McpError::unavailable("the market is closed"))
    ///     }
    /// };
    /// let warmed = rates.warm(&(), ["EUR", "USD"], 4, fetch).await?;
    /// assert_eq!((warmed.loaded, warmed.failed.len()), (1, 1)); // and the server starts
    ///
    /// let error = warmed.complete().unwrap_err(); // or does not
    /// assert_eq!(error.message, r#"the cache lacks 1 of 2: "USD" (the market is closed)"#);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] before the first load if `concurrency` is zero.
    pub async fn warm<L, F>(
        &self,
        cancellation: &impl Cancellation,
        keys: impl IntoIterator<Item = K>,
        concurrency: usize,
        load: L,
    ) -> Result<Warmed, ConfigError>
    where
        K: fmt::Debug,
        E: fmt::Display,
        L: Fn(K) -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let concurrency = check("Cache", concurrency)?;
        let (keys, load): (Vec<_>, _) = (keys.into_iter().collect(), &load);
        let loads = keys.into_iter().map(|key| async move {
            let (keys, ttl) = (self.entry_keys(&key), self.ttl());
            let wanted = key.clone();
            let caller = Anybody(cancellation);
            let found = self.loader.get_or_load(&caller, key.clone(), &keys, ttl, |_| load(wanted).boxed()).await;
            found
                .map(|(_, source)| source)
                .map_err(|error| NotWarmed { key: format!("{key:?}"), error: error.to_string() })
        });
        Ok(self.warm_with(cancellation, loads, concurrency).await)
    }

    /// Awaits all `loads`, `concurrency` at a time. Dropped, it drops the loads under way, and begins no other.
    pub(in crate::cached) async fn warm_with(
        &self,
        cancellation: &impl Cancellation,
        loads: impl ExactSizeIterator<Item: Future<Output = Result<Source, NotWarmed>>>,
        concurrency: NonZeroUsize,
    ) -> Warmed {
        if let Some(client) = self.loader.client() {
            self.start();
            select(pin!(client.settled()), pin!(cancelled(cancellation))).await;
        }
        let of = loads.len();
        // About ten times in all.
        let step = of.div_ceil(10);
        let got = stream::iter(loads).buffer_unordered(concurrency.get());
        let warmed = got.fold(Warmed::default(), |mut warmed, got| {
            match got {
                Ok(Source::Load | Source::Own) => warmed.loaded += 1,
                Ok(Source::Hit { .. } | Source::Stale { .. }) => warmed.present += 1,
                Err(missing) => {
                    if warmed.failed.len() < NAMED {
                        tracing::warn!(key = missing.key, error = missing.error, "not warmed");
                    }
                    warmed.failed.push(missing);
                }
            }
            let done = warmed.done();
            if done % step == 0 {
                tracing::info!(done, of, "warming the cache");
            }
            ready(warmed)
        });
        let warmed = warmed.await;
        let (loaded, present, failed) = (warmed.loaded, warmed.present, warmed.failed.len());
        tracing::info!(loaded, present, failed, "cache warmed");
        warmed
    }
}

pub(in crate::cached) fn check(layer: &'static str, concurrency: usize) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(concurrency).ok_or_else(|| ConfigError::invalid(layer, "warm", format!("`concurrency` {ZERO}")))
}
