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
use crate::ConfigError;
use crate::cancellation::Cancellation;
use crate::clock::is_too_short;
use crate::outcome;
use crate::retry::{ByError, RetryPolicy};

/// A named source of a `T`.
///
/// It is asked by a closure, so that it can be asked again, or not at all. The closure may borrow from the tool:
/// `Source::new("news", || self.fetch_news(&query))`.
///
/// The name appears in answers, logs and metrics: use one word, and few different names.
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
    /// Creates a source of this name that is asked by calling `ask`.
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

    /// Ends the source after `timeout`, all its attempts together, with a temporary failure (`timeout`).
    ///
    /// Without this setting, the timeout of the [`Gather`](super::Gather) or [`Fallback`](super::Fallback) applies.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks again after a temporary failure, as often as `policy` allows. Clones of a policy share its budget.
    ///
    /// A failure that the policy gives up on is marked, and a [`RetryTool`](crate::RetryTool) around the tool does not retry it.
    pub fn with_retry(mut self, policy: &RetryPolicy) -> Self {
        self.retry = Some(policy.clone());
        self
    }

    /// Fails the whole answer if this source fails. See [`Gather::degrade`](super::Gather::degrade).
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Turns the data into JSON, so that sources of different types fit into one list.
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
                    let last = policy.drive(cancellation, &ByError, |_| ask()).await;
                    last.result.map_err(|mut error| {
                        // So that a layer around the tool does not multiply the attempts.
                        if let Some(exhausted) = last.exhausted {
                            outcome::note_in(&mut error, outcome::EXHAUSTED, exhausted.as_str());
                            outcome::note_in(&mut error, outcome::ATTEMPTS, last.attempts);
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

    /// Adds the name of the source to the error's data.
    pub(super) fn sign(&self, mut error: McpError) -> McpError {
        outcome::note_in(&mut error, SOURCE, json!({ "name": self.name }));
        error
    }
}

impl<'a, T: Send + 'a> Source<'a, Option<T>> {
    /// Calls `backfill` with the answer that this source missed, once a later source has found it. See [`Fallback`](super::Fallback).
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

/// Refuses a timeout that is below what timers count.
pub(super) fn check_timeout(
    of: &'static str,
    setting: &'static str,
    timeout: Option<Duration>,
) -> Result<(), ConfigError> {
    match timeout {
        Some(timeout) if is_too_short(timeout) => Err(ConfigError::invalid(of, setting, "must be at least 1 ms")),
        _ => Ok(()),
    }
}

/// The error of a panic. The panic hook has logged the message.
pub(super) fn panicked<T>(_: Box<dyn Any + Send>) -> McpResult<T> {
    Err(McpError::new(ErrorKind::Internal, "It panicked"))
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
