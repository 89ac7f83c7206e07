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
use super::{ChainError, Compensated};
use crate::cancellation::Cancellation;

/// Runs steps one after the other, and undoes those that succeeded when a later one fails. See the
/// [manual](super#steps-one-after-the-other-chain).
#[derive(Debug, Clone)]
#[must_use]
pub struct Chain {
    name: Cow<'static, str>,
    compensation_timeout: Duration,
}

impl Chain {
    /// A chain of this name, whose compensations take 10 seconds each at most.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), compensation_timeout: Duration::from_secs(10) }
    }

    /// Gives up a compensation after `timeout`, and goes on with the next.
    pub const fn with_compensation_timeout(mut self, timeout: Duration) -> Self {
        self.compensation_timeout = timeout;
        self
    }

    /// Runs `body`, which makes its steps through the [`Steps`] that it is given.
    ///
    /// Where it does not return `Ok`, the steps that can be undone are undone: in reverse order, one after the other, in a task of
    /// their own. An error waits for that; so does nobody who has left, whether the call was dropped or panicked.
    ///
    /// Once `cancellation` (the tool's `&RequestContext`, or `&()`) is cancelled, no further step begins. One that runs is not cut
    /// short, so that it is known how it ended.
    ///
    /// # Errors
    ///
    /// The error of `body`, with the step that it came from and what was undone.
    pub async fn run<'c, T, B, F>(&self, cancellation: &'c impl Cancellation, body: B) -> Result<T, ChainError>
    where
        B: FnOnce(Steps<'c>) -> F,
        F: Future<Output = McpResult<T>>,
    {
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
    /// Makes a step that leaves nothing to undo, in a span of its name.
    ///
    /// # Errors
    ///
    /// The error of `action`, unchanged. `cancelled` if the call is, before the action begins.
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

    /// Makes a step that is undone when a later one fails: by the future that `undo` makes of what the step came to.
    ///
    /// `undo` is called at once and its future is kept, to be polled only if it comes to that.
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

    /// Undoes something when the chain fails from here on, whether or not a step made it.
    ///
    /// Before a step that may have had its effect although it failed (a request whose answer was lost), this undoes it in any
    /// case: `undo` must then do no harm where there is nothing to undo.
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

/// How far a run has come.
#[derive(Default)]
struct Progress(Mutex<Made>);

#[derive(Default)]
struct Made {
    /// In the order in which the steps were made.
    compensations: Vec<Compensation>,
    failures: Vec<Failure>,
    /// Whether a failure is the last thing that happened.
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

    /// Finds the step that an error comes from: the one that failed with it, for steps may run side by side; or the one that
    /// failed just now, for the body may have put it in its own words.
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

/// A run that has not come to its end. Its drop undoes what was done.
struct Unfinished {
    chain: Chain,
    progress: Arc<Progress>,
    /// A drop may happen outside of it.
    runtime: Option<Handle>,
}

impl Unfinished {
    fn undoing(&self) -> Option<Undoing> {
        Undoing::new(self.chain.name.clone(), self.progress.take(), self.chain.compensation_timeout)
    }

    async fn undo(&self) -> Vec<Compensated> {
        let Some(undoing) = self.undoing() else { return Vec::new() };
        let steps = undoing.steps();
        let undone = match &self.runtime {
            Some(runtime) => runtime.spawn(undoing.run().in_current_span()).await.ok(),
            None => None,
        };
        undone.unwrap_or_else(|| steps.into_iter().map(Compensated::lost).collect())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(undoing) = self.undoing() else { return };
        tracing::info!(chain = %self.chain.name, "a chain was left, undoing its steps");
        if let Some(runtime) = &self.runtime {
            runtime.spawn(undoing.run().in_current_span());
        }
    }
}

/// The error of a chain as a tool returns it: its kind and data are kept, the text names the step and what is not undone.
impl From<ChainError> for McpError {
    fn from(failed: ChainError) -> Self {
        failed.into_error()
    }
}
