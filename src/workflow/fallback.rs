use std::borrow::Cow;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, join_all, select};
use serde_json::{Map, Value};
use tokio::time::timeout;
use turbomcp_core::{ErrorKind, McpError, McpResult};
use turbomcp_types::ToolResult;

use super::gather::{count_failure, gone};
use super::source::{Backfill, check_timeout, panicked};
use super::{SOURCE, Source};
use crate::ConfigError;
use crate::cancellation::{Cancellation, cancelled};
use crate::outcome;
use crate::telemetry::NamedWarning;

static FAILED: LazyLock<NamedWarning> = LazyLock::new(NamedWarning::default);
static NOT_FILLED: LazyLock<NamedWarning> = LazyLock::new(NamedWarning::default);

/// Asks sources one after the other until one has the answer. See the [manual](super#sources-in-order-fallback).
///
/// It is small and has no state: store it in the server, or create it for each call.
#[derive(Clone)]
#[must_use]
pub struct Fallback {
    timeout: Option<Duration>,
    backfill_timeout: Duration,
    fall_back_if: Option<Predicate>,
}

type Predicate = Arc<dyn Fn(&McpError) -> bool + Send + Sync>;

impl Fallback {
    /// Creates a fallback with 30 seconds for each source and 250 ms for backfills.
    pub const fn new() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            backfill_timeout: Duration::from_millis(250),
            fall_back_if: None,
        }
    }

    /// Ends each source that has no [timeout of its own](Source::with_timeout) after `timeout`, and asks the next one.
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Removes the time limit of sources without a timeout of their own.
    pub const fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Sets how long the answer waits for the backfills of the sources that missed, all at once.
    pub const fn with_backfill_timeout(mut self, timeout: Duration) -> Self {
        self.backfill_timeout = timeout;
        self
    }

    /// Sets after which errors the next source is asked. Any other error ends the search.
    pub fn fall_back_if(mut self, fall_back_if: impl Fn(&McpError) -> bool + Send + Sync + 'static) -> Self {
        self.fall_back_if = Some(Arc::new(fall_back_if));
        self
    }

    /// Checks the settings. [`find`](Self::find) does so too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a timeout below one millisecond.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_timeout("Fallback", "with_timeout", self.timeout)?;
        check_timeout("Fallback", "with_backfill_timeout", Some(self.backfill_timeout))
    }

    /// Returns the answer of the first source that has one, after the [backfills](Source::with_backfill) of the sources before it that
    /// missed.
    ///
    /// A source misses with `Ok(None)`. If the last source misses too, the result is `Ok(None)`.
    ///
    /// # Errors
    ///
    /// An error that ends the search, or the error of the last source; with the source's name in the data under
    /// [`SOURCE`](super::SOURCE). `cancelled`, once `cancellation` (the tool's `&RequestContext`, or `&()`) is. `configuration` if a
    /// setting cannot work.
    pub async fn find<'a, T: Clone + Send>(
        &self,
        cancellation: &impl Cancellation,
        sources: impl IntoIterator<Item = Source<'a, Option<T>>>,
    ) -> McpResult<Option<Found<T>>> {
        self.check()?;
        let sources: Vec<_> = sources.into_iter().collect();
        let mut missed = Vec::new();
        let mut failed = Vec::new();
        let mut last_answer = Ok(None);
        for mut source in sources {
            if cancellation.is_cancelled() {
                return Err(gone());
            }
            let answer = match select(pin!(source.ask(cancellation, self.timeout)), pin!(cancelled(cancellation))).await
            {
                Either::Left((answer, _)) => answer,
                Either::Right(((), _)) => return Err(gone()),
            };
            match answer {
                Ok(Some(value)) => {
                    let (missed, fills): (Vec<_>, Vec<_>) = missed.into_iter().unzip();
                    let fills = missed.iter().cloned().zip(fills);
                    let backfilled = self.backfill(cancellation, fills, &value).await;
                    return Ok(Some(Found { value, source: source.name, missed, failed, backfilled }));
                }
                Ok(None) => {
                    missed.push((source.name, source.backfill));
                    last_answer = Ok(None);
                }
                Err(error) if self.falls_back(&error) => {
                    if let Some(unsaid) = FAILED.due(&source.name) {
                        let (source, kind) = (&source.name, error.kind);
                        tracing::warn!(%source, ?kind, %error, unsaid, "a source failed, asking the next");
                    }
                    count_failure(&source.name);
                    last_answer = Err(source.sign(error));
                    failed.push(source.name);
                }
                Err(error) => return Err(source.sign(error)),
            }
        }
        last_answer
    }

    /// Hands `value` to the sources that missed, all at once, and returns the names of those that stored it in time.
    async fn backfill<'a, T: Clone + Send>(
        &self,
        cancellation: &impl Cancellation,
        missed: impl Iterator<Item = (Cow<'static, str>, Option<Backfill<'a, Option<T>>>)>,
        value: &T,
    ) -> Vec<Cow<'static, str>> {
        let fills = missed.filter_map(|(name, fill)| Some((name, fill?))).map(|(name, fill)| {
            let value = Some(value.clone());
            async move {
                let fill = AssertUnwindSafe(async { fill(value).await }).catch_unwind();
                let fill = timeout(self.backfill_timeout, fill);
                let filled = match select(pin!(fill), pin!(cancelled(cancellation))).await {
                    Either::Left((Ok(filled), _)) => filled.unwrap_or_else(panicked),
                    Either::Left((Err(_), _)) => Err(outcome::timed_out(self.backfill_timeout)),
                    Either::Right(((), _)) => Err(gone()),
                };
                match filled {
                    Ok(()) => Some(name),
                    Err(error) => {
                        if let Some(unsaid) = NOT_FILLED.due(&name) {
                            tracing::warn!(source = %name, kind = ?error.kind, %error, unsaid, "a backfill failed");
                        }
                        None
                    }
                }
            }
        });
        let fills: Vec<_> = fills.collect();
        join_all(fills).await.into_iter().flatten().collect()
    }

    fn falls_back(&self, error: &McpError) -> bool {
        match &self.fall_back_if {
            Some(fall_back_if) => fall_back_if(error),
            None => !is_about_the_call(error.kind),
        }
    }
}

/// Returns whether an error is about the call or its caller: no other source may answer differently.
const fn is_about_the_call(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidParams
            | ErrorKind::InvalidRequest
            | ErrorKind::Authentication
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceAccessDenied
            | ErrorKind::Security
            | ErrorKind::UserRejected
            | ErrorKind::UrlElicitationRequired
            | ErrorKind::Cancelled
    )
}

impl Default for Fallback {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("timeout", &self.timeout)
            .field("backfill_timeout", &self.backfill_timeout)
            .field("own_fall_back_if", &self.fall_back_if.is_some())
            .finish()
    }
}

/// The answer of a [`Fallback`], and the source that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<T> {
    /// The answer.
    pub value: T,
    /// The source that had it.
    pub source: Cow<'static, str>,
    /// The sources before it that missed.
    pub missed: Vec<Cow<'static, str>>,
    /// The sources before it that failed.
    pub failed: Vec<Cow<'static, str>>,
    /// The sources that missed and were filled.
    pub backfilled: Vec<Cow<'static, str>>,
}

impl<T> Found<T> {
    /// Adds the source of the answer to the `_meta` of `result`, under [`SOURCE`](super::SOURCE):
    /// `{"name": "database", "missed": ["cache"], "backfilled": ["cache"]}`, without empty lists.
    #[must_use]
    pub fn annotate(&self, mut result: ToolResult) -> ToolResult {
        let mut entries = Map::from_iter([("name".to_owned(), self.source.as_ref().into())]);
        for (entry, sources) in [("missed", &self.missed), ("failed", &self.failed), ("backfilled", &self.backfilled)] {
            if !sources.is_empty() {
                let sources = sources.iter().map(|source| Value::from(source.as_ref())).collect();
                entries.insert(entry.to_owned(), Value::Array(sources));
            }
        }
        result.meta.get_or_insert_default().insert(SOURCE.to_owned(), entries.into());
        result
    }
}
