use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::Instrument;
use turbomcp_core::{ErrorKind, McpError, McpResult};

use super::SOURCE;
use crate::cancellation::Cancellation;
use crate::outcome;
use crate::retry::{ByError, RetryPolicy};

/// Something that can be asked for a `T`, under a name.
///
/// What it is asked with is a closure, so that it can be asked again, or not at all. It may borrow from the tool:
/// `Source::new("news", || self.fetch_news(&query))`.
///
/// The name stands in answers, logs and metrics: keep it one word, and the number of names small.
#[must_use = "a source is asked by a `Gather` or a `Fallback`"]
pub struct Source<'a, T> {
    pub(super) name: Cow<'static, str>,
    ask: Ask<'a, T>,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    pub(super) required: bool,
    pub(super) backfill: Option<Backfill<'a, T>>,
}

type Ask<'a, T> = Box<dyn FnMut() -> BoxFuture<'a, McpResult<T>> + Send + 'a>;
pub(super) type Backfill<'a, T> = Box<dyn FnOnce(T) -> BoxFuture<'a, McpResult<()>> + Send + 'a>;

impl<'a, T: Send> Source<'a, T> {
    /// A source of this name that is asked by calling `ask`.
    pub fn new<F>(name: impl Into<Cow<'static, str>>, mut ask: impl FnMut() -> F + Send + 'a) -> Self
    where
        F: Future<Output = McpResult<T>> + Send + 'a,
    {
        Self {
            name: name.into(),
            ask: Box::new(move || ask().boxed()),
            timeout: None,
            retry: None,
            required: false,
            backfill: None,
        }
    }

    /// Gives the source up after `timeout`, all its attempts together. It then failed for the moment (`timeout`).
    ///
    /// Without it, the timeout of the [`Gather`](super::Gather) or [`Fallback`](super::Fallback) holds.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks again after a temporary failure, as often as `policy` allows. Clones of a policy share its budget.
    ///
    /// A failure that it gives up on is marked so, and a [`RetryTool`](crate::RetryTool) around the tool leaves it alone.
    pub fn with_retry(mut self, policy: &RetryPolicy) -> Self {
        self.retry = Some(policy.clone());
        self
    }

    /// Lets no answer be given without this source. See [`Gather::degrade`](super::Gather::degrade).
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Turns the data into JSON, so that sources of different types stand in one list.
    pub fn json(self) -> Source<'a, Value>
    where
        T: Serialize + 'a,
    {
        let Self { name, mut ask, timeout, retry, required, backfill: _ } = self;
        let ask: Ask<'a, Value> = Box::new(move || {
            let data = ask();
            async move { serde_json::to_value(data.await?).map_err(|error| McpError::serialization(error.to_string())) }
                .boxed()
        });
        Source { name, ask, timeout, retry, required, backfill: None }
    }

    /// Asks, as often and as long as the settings allow. A panic is a failure.
    pub(super) async fn ask(
        &mut self,
        cancellation: &impl Cancellation,
        default_timeout: Option<Duration>,
    ) -> McpResult<T> {
        let Self { name, ask, retry, .. } = self;
        let asked = async {
            match retry {
                Some(policy) => {
                    let driven = policy.drive(cancellation, &ByError, |_| ask()).await;
                    driven.result.map_err(|mut error| {
                        // So that a layer around the tool does not multiply the attempts.
                        if let Some(exhausted) = driven.exhausted {
                            outcome::note_in(&mut error, outcome::EXHAUSTED, exhausted.as_str());
                            outcome::note_in(&mut error, outcome::ATTEMPTS, driven.attempts);
                        }
                        error
                    })
                }
                None => ask().await,
            }
        };
        let asked = AssertUnwindSafe(asked.instrument(tracing::info_span!("source", source = %name))).catch_unwind();
        match self.timeout.or(default_timeout) {
            None => asked.await.unwrap_or_else(panicked),
            Some(after) => match timeout(after, asked).await {
                Ok(answer) => answer.unwrap_or_else(panicked),
                Err(_) => Err(outcome::timed_out(after)),
            },
        }
    }

    /// Tells in the error's data whose error it is.
    pub(super) fn sign(&self, mut error: McpError) -> McpError {
        outcome::note_in(&mut error, SOURCE, json!({ "name": self.name }));
        error
    }
}

impl<'a, T: Send + 'a> Source<'a, Option<T>> {
    /// Hands this source what it missed, once a later one has found it. See [`Fallback`](super::Fallback).
    pub fn with_backfill<F>(mut self, backfill: impl FnOnce(T) -> F + Send + 'a) -> Self
    where
        F: Future<Output = McpResult<()>> + Send + 'a,
    {
        self.backfill = Some(Box::new(|found| {
            async move {
                match found {
                    Some(found) => backfill(found).await,
                    None => Ok(()),
                }
            }
            .boxed()
        }));
        self
    }
}

/// The panic hook has told what happened; the caller need not know more.
pub(super) fn panicked<T>(_: Box<dyn Any + Send>) -> McpResult<T> {
    Err(McpError::new(ErrorKind::Internal, "It ended in a panic"))
}

impl<T> fmt::Debug for Source<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("required", &self.required)
            .field("has_backfill", &self.backfill.is_some())
            .finish_non_exhaustive()
    }
}
