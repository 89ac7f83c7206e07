use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tracing::Instrument;
use turbomcp_core::{ErrorKind, McpError, McpResult};

use super::compensation::{Compensation, Undoing};
use super::gather::gone;
use super::source::check_timeout;
use super::{ChainError, CompensationResult};
use crate::ConfigError;
use crate::cancellation::Cancellation;

/// Runs steps one after the other, and undoes the completed ones when a later one fails. See the
/// [manual](super#steps-one-after-the-other-chain).
#[derive(Debug, Clone)]
#[must_use]
pub struct Chain {
    name: Cow<'static, str>,
    compensation_timeout: Duration,
}

impl Chain {
    /// Creates a chain of this name, whose compensations take at most 10 seconds each.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), compensation_timeout: Duration::from_secs(10) }
    }

    /// Ends a compensation after `timeout`, and runs the next one.
    pub const fn with_compensation_timeout(mut self, timeout: Duration) -> Self {
        self.compensation_timeout = timeout;
        self
    }

    /// Checks the settings. [`run`](Self::run) does so too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a timeout below one millisecond.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_timeout("Chain", "with_compensation_timeout", Some(self.compensation_timeout))
    }

    /// Runs `body`, which makes its steps with the [`Steps`] that it gets.
    ///
    /// If it does not return `Ok`, the steps that can be undone are undone: in reverse order, one after the other, in a task of
    /// their own. An error is returned when they have ended. If the call was dropped or panicked, they run without it.
    ///
    /// Once `cancellation` (the tool's `&RequestContext`, or `&()`) is cancelled, no further step begins. A running step is not cut
    /// short, so that its result is known.
    ///
    /// # Errors
    ///
    /// The error of `body`, with the step that it came from and the result of each compensation. A `configuration` error, before
    /// `body` runs, if a setting cannot work.
    pub async fn run<'c, T, B, F>(&self, cancellation: &'c impl Cancellation, body: B) -> Result<T, ChainError>
    where
        B: FnOnce(Steps<'c>) -> F,
        F: Future<Output = McpResult<T>>,
    {
        if let Err(error) = self.check() {
            return Err(ChainError {
                chain: self.name.clone(),
                step: None,
                error: error.into(),
                compensations: Vec::new(),
            });
        }
        let progress = Arc::<Progress>::default();
        let unfinished =
            Unfinished { chain: self.clone(), progress: Arc::clone(&progress), runtime: Handle::try_current().ok() };
        let steps = Steps { chain: self.name.clone(), cancellation, progress: Arc::clone(&progress) };
        let error = match body(steps).await {
            Ok(done) => {
                progress.take();
                return Ok(done);
            }
            Err(error) => error,
        };
        let step = progress.lock().step_of(&error);
        tracing::debug!(chain = %self.name, step = step.as_deref(), kind = ?error.kind, "a chain failed");
        let compensations = unfinished.undo().await;
        Err(ChainError { chain: self.name.clone(), step, error, compensations })
    }
}

/// Makes the steps of one run of a [`Chain`].
pub struct Steps<'c> {
    chain: Cow<'static, str>,
    cancellation: &'c dyn Cancellation,
    progress: Arc<Progress>,
}

impl Steps<'_> {
    /// Makes a step that needs no compensation, in a span of its name.
    ///
    /// # Errors
    ///
    /// The error of `action`, unchanged. `cancelled` if the call is cancelled before the action begins.
    pub async fn step<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        action: impl Future<Output = McpResult<T>>,
    ) -> McpResult<T> {
        let name = name.into();
        let span = tracing::info_span!("step", chain = %self.chain, step = %name);
        let made = if self.cancellation.is_cancelled() { Err(gone()) } else { action.instrument(span).await };
        self.progress.lock().note(name, &made);
        made
    }

    /// Makes a step that is undone when a later one fails, by the future that `undo` creates from the result of the step.
    ///
    /// `undo` is called as soon as the step has succeeded. Its future is polled only if a later step fails.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step). A step that failed is not undone.
    pub async fn undoable<T, U>(
        &self,
        name: impl Into<Cow<'static, str>>,
        action: impl Future<Output = McpResult<T>>,
        undo: impl FnOnce(&T) -> U,
    ) -> McpResult<T>
    where
        U: Future<Output = McpResult<()>> + Send + 'static,
    {
        let name = name.into();
        let done = self.step(name.clone(), action).await?;
        self.on_failure(name, undo(&done));
        Ok(done)
    }

    /// Runs `undo` if the chain fails from here on, whether or not a step has succeeded.
    ///
    /// Call it before a step that may have its effect although it fails (a request whose answer is lost). `undo` must then be
    /// harmless if there is nothing to undo.
    pub fn on_failure(
        &self,
        name: impl Into<Cow<'static, str>>,
        undo: impl Future<Output = McpResult<()>> + Send + 'static,
    ) {
        let compensation = Compensation { step: name.into(), undo: undo.boxed() };
        self.progress.lock().compensations.push(compensation);
    }
}

impl fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The progress of a run.
#[derive(Default)]
struct Progress(Mutex<Made>);

#[derive(Default)]
struct Made {
    /// In the order in which the steps were made.
    compensations: Vec<Compensation>,
    failures: Vec<Failure>,
    /// Whether the last step failed.
    ends_badly: bool,
}

struct Failure {
    step: Cow<'static, str>,
    kind: ErrorKind,
    message: String,
}

impl Made {
    fn note<T>(&mut self, step: Cow<'static, str>, made: &McpResult<T>) {
        self.ends_badly = made.is_err();
        if let Err(error) = made {
            self.failures.push(Failure { step, kind: error.kind, message: error.message.clone() });
        }
    }

    /// Finds the step that an error comes from: the one that failed with this error, since steps may run side by side; or the last
    /// one if it failed, since the body may have changed the text.
    fn step_of(&self, error: &McpError) -> Option<Cow<'static, str>> {
        let is_it = |failure: &&Failure| failure.kind == error.kind && failure.message == error.message;
        let failed = self.failures.iter().rev().find(is_it);
        failed.or_else(|| self.failures.last().filter(|_| self.ends_badly)).map(|failure| failure.step.clone())
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Compensation> {
        std::mem::take(&mut self.lock().compensations)
    }
}

/// A run that has not ended. Its drop undoes the completed steps.
struct Unfinished {
    chain: Chain,
    progress: Arc<Progress>,
    /// A drop may happen outside of the runtime.
    runtime: Option<Handle>,
}

impl Unfinished {
    fn undoing(&self) -> Option<Undoing> {
        Undoing::new(self.chain.name.clone(), self.progress.take(), self.chain.compensation_timeout)
    }

    async fn undo(&self) -> Vec<CompensationResult> {
        let Some(undoing) = self.undoing() else { return Vec::new() };
        let steps = undoing.steps();
        let undone = match &self.runtime {
            Some(runtime) => runtime.spawn(undoing.run().in_current_span()).await.ok(),
            None => None,
        };
        undone.unwrap_or_else(|| steps.into_iter().map(CompensationResult::aborted).collect())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(undoing) = self.undoing() else { return };
        tracing::info!(chain = %self.chain.name, "a chain was cancelled, undoing its steps");
        if let Some(runtime) = &self.runtime {
            runtime.spawn(undoing.run().in_current_span());
        }
    }
}

/// The error of a chain as a tool returns it: its kind and data are kept, the text names the step and the steps that are not undone.
impl From<ChainError> for McpError {
    fn from(failed: ChainError) -> Self {
        failed.into_error()
    }
}
