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
use super::source::{Backfill, panicked};
use super::{SOURCE, Source};
use crate::cancellation::{Cancellation, cancelled};
use crate::outcome;
use crate::telemetry::NamedWarning;

static FAILED: LazyLock<NamedWarning> = LazyLock::new(NamedWarning::default);
static NOT_FILLED: LazyLock<NamedWarning> = LazyLock::new(NamedWarning::default);

/// Asks sources one after the other until one has the answer. See the [manual](super#sources-in-order-fallback).
///
/// A small value: keep it with the server, or make it where it is used.
#[derive(Clone)]
#[must_use]
pub struct Fallback {
    timeout: Option<Duration>,
    backfill_timeout: Duration,
    move_on: Option<Predicate>,
}

type Predicate = Arc<dyn Fn(&McpError) -> bool + Send + Sync>;

impl Fallback {
    /// 30 seconds for each source, 250 ms for filling those that missed.
    pub const fn new() -> Self {
        Self { timeout: Some(Duration::from_secs(30)), backfill_timeout: Duration::from_millis(250), move_on: None }
    }

    /// Gives up each source that has no [timeout of its own](Source::with_timeout) after `timeout`, and asks the next.
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets sources without a timeout of their own take as long as they take.
    pub const fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Bounds how long the answer waits for the sources that missed to be filled, all of them at once.
    pub const fn with_backfill_timeout(mut self, timeout: Duration) -> Self {
        self.backfill_timeout = timeout;
        self
    }

    /// Replaces the judgement which errors lead to the next source. Any other ends the search.
    pub fn with_move_on(mut self, move_on: impl Fn(&McpError) -> bool + Send + Sync + 'static) -> Self {
        self.move_on = Some(Arc::new(move_on));
        self
    }

    /// Returns what the first source that has it answers, once those before it that missed are
    /// [filled](Source::with_backfill).
    ///
    /// A source misses with `Ok(None)`. `Ok(None)` comes back where the last source has nothing either.
    ///
    /// # Errors
    ///
    /// An error that ends the search, or the error of the last source; with the source's name in the data under
    /// [`SOURCE`](super::SOURCE). `cancelled`, once `cancellation` (the tool's `&RequestContext`, or `&()`) is.
    pub async fn find<'a, T: Clone + Send>(
        &self,
        cancellation: &impl Cancellation,
        sources: impl IntoIterator<Item = Source<'a, Option<T>>>,
    ) -> McpResult<Option<Found<T>>> {
        let sources: Vec<_> = sources.into_iter().collect();
        let mut missed = Vec::new();
        let mut failed = Vec::new();
        let mut last_word = Ok(None);
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
                    last_word = Ok(None);
                }
                Err(error) if self.moves_on(&error) => {
                    if let Some(unsaid) = FAILED.due(&source.name) {
                        let (source, kind) = (&source.name, error.kind);
                        tracing::warn!(%source, ?kind, %error, unsaid, "a source failed, asking the next");
                    }
                    count_failure(&source.name);
                    last_word = Err(source.sign(error));
                    failed.push(source.name);
                }
                Err(error) => return Err(source.sign(error)),
            }
        }
        last_word
    }

    /// Hands `value` to the sources that missed it, all at once, and returns the names of those that took it in time.
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
                            tracing::warn!(source = %name, kind = ?error.kind, %error, unsaid, "a source was not filled");
                        }
                        None
                    }
                }
            }
        });
        let fills: Vec<_> = fills.collect();
        join_all(fills).await.into_iter().flatten().collect()
    }

    fn moves_on(&self, error: &McpError) -> bool {
        match &self.move_on {
            Some(move_on) => move_on(error),
            None => !is_about_the_call(error.kind),
        }
    }
}

/// Says whether an error is about the call, or about who makes it: no other source may answer differently.
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
            .field("own_move_on", &self.move_on.is_some())
            .finish()
    }
}

/// What a [`Fallback`] found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// The source that had it.
    pub source: Cow<'static, str>,
    /// The sources before it that had nothing.
    pub missed: Vec<Cow<'static, str>>,
    /// The sources before it that failed.
    pub failed: Vec<Cow<'static, str>>,
    /// Those of the missed that have it now.
    pub backfilled: Vec<Cow<'static, str>>,
}

impl<T> Found<T> {
    /// Tells in the `_meta` of `result`, under [`SOURCE`](super::SOURCE), where the answer comes from:
    /// `{"name": "database", "missed": ["cache"], "backfilled": ["cache"]}`. Lists that are empty are left out.
    #[must_use]
    pub fn tell(&self, mut result: ToolResult) -> ToolResult {
        let mut told = Map::from_iter([("name".to_owned(), self.source.as_ref().into())]);
        for (entry, sources) in [("missed", &self.missed), ("failed", &self.failed), ("backfilled", &self.backfilled)] {
            if !sources.is_empty() {
                let sources = sources.iter().map(|source| Value::from(source.as_ref())).collect();
                told.insert(entry.to_owned(), Value::Array(sources));
            }
        }
        result.meta.get_or_insert_default().insert(SOURCE.to_owned(), told.into());
        result
    }
}
