use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tracing::Instrument;
use turbomcp_core::{McpError, McpResult};

use super::CHAIN;
use super::mask::mask;
use super::source::panicked;
use crate::outcome;
use crate::telemetry::Counter;

/// The compensation of a step.
pub(super) struct Compensation {
    pub(super) step: Cow<'static, str>,
    pub(super) undo: BoxFuture<'static, McpResult<()>>,
}

/// The result of a compensation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompensationResult {
    /// The step that the compensation undoes.
    pub step: Cow<'static, str>,
    /// Why the step is not undone, in a sentence that a caller may read; `None` if it is undone.
    pub error: Option<String>,
}

impl CompensationResult {
    /// Creates the result of a compensation that did not run, because the runtime is shutting down.
    pub(super) fn aborted(step: Cow<'static, str>) -> Self {
        Self { step, error: Some("The server is shutting down".to_owned()) }
    }
}

/// The compensations of a failed run. The one of the last step runs first.
pub(super) struct Undoing {
    chain: Cow<'static, str>,
    due: Vec<Compensation>,
    timeout: Duration,
}

impl Undoing {
    /// Returns `None` if there is nothing to undo.
    pub(super) fn new(chain: Cow<'static, str>, made: Vec<Compensation>, timeout: Duration) -> Option<Self> {
        (!made.is_empty()).then_some(Self { chain, due: made, timeout })
    }

    /// The steps, in the order in which they are undone.
    pub(super) fn steps(&self) -> Vec<Cow<'static, str>> {
        self.due.iter().rev().map(|compensation| compensation.step.clone()).collect()
    }

    /// Undoes one step after the other. One that cannot be undone does not stop the others.
    pub(super) async fn run(mut self) -> Vec<CompensationResult> {
        let mut undone = Vec::new();
        while let Some(Compensation { step, undo }) = self.due.last_mut() {
            let span = tracing::info_span!("compensation", chain = %self.chain, %step);
            // The future stays in the list until it has ended, so that a drop reports it.
            let outcome = async {
                match timeout(self.timeout, AssertUnwindSafe(undo).catch_unwind()).await {
                    Ok(outcome) => outcome.unwrap_or_else(panicked),
                    Err(_) => Err(outcome::timed_out(self.timeout)),
                }
            }
            .instrument(span)
            .await;
            let error = outcome.err().map(|error| {
                let masked = mask(step, &error);
                tracing::warn!(chain = %self.chain, %step, kind = ?error.kind, %error, id = masked.id, "a step is not undone");
                masked.sentence
            });
            count(&self.chain, error.is_none());
            undone.push(CompensationResult { step: step.clone(), error });
            self.due.pop();
        }
        undone
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        for step in self.steps() {
            tracing::warn!(chain = %self.chain, %step, "a step is not undone, the runtime has shut down");
            count(&self.chain, false);
        }
    }
}

fn count(chain: &str, undone: bool) {
    let outcome = if undone { "undone" } else { "failed" };
    Counter::new("mcp_patterns_compensations_total", &[("chain", chain), ("outcome", outcome)]).increment();
}

/// The error of a failed [`Chain`](super::Chain), with the results of its compensations.
///
/// `?` turns it into an [`McpError`] of the same kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChainError {
    /// The chain.
    pub chain: Cow<'static, str>,
    /// The step that failed. `None` if the error is the body's own.
    pub step: Option<Cow<'static, str>>,
    /// Its error, unchanged.
    pub error: McpError,
    /// The results of the compensations, in the order in which they ran.
    pub compensations: Vec<CompensationResult>,
}

impl ChainError {
    /// Returns whether all compensations succeeded.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.compensations.iter().all(|compensated| compensated.error.is_none())
    }

    pub(super) fn into_error(self) -> McpError {
        let is_undone = self.is_undone();
        let message = self.to_string();
        let Self { step, mut error, compensations, .. } = self;
        let mut entries = Map::new();
        if let Some(step) = step {
            entries.insert("step".to_owned(), step.into());
        }
        // Lists, since a loop may give many steps one name.
        let (mut undone, mut not_undone) = (Vec::new(), Vec::new());
        for CompensationResult { step, error } in compensations {
            match error {
                None => undone.push(Value::from(step)),
                Some(sentence) => not_undone.push(json!({ "step": step, "error": sentence })),
            }
        }
        if !undone.is_empty() {
            entries.insert("undone".to_owned(), undone.into());
        }
        if !not_undone.is_empty() {
            entries.insert("notUndone".to_owned(), not_undone.into());
        }
        // The step may have been a chain itself, with lists of its own.
        if let Some(inner) = error.data().and_then(|data| data.get(CHAIN)) {
            entries.insert("inner".to_owned(), inner.clone());
        }
        error.message = message;
        outcome::note_in(&mut error, CHAIN, entries);
        if !is_undone {
            // If the call were repeated, the uncompensated steps would be done twice.
            outcome::note_in(&mut error, outcome::EXHAUSTED, "compensation");
        }
        error
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "Step `{step}` failed: {}", self.error.message)?,
            None => f.write_str(&self.error.message)?,
        }
        let mut separator = ". Not undone: ";
        for compensated in self.compensations.iter().filter(|compensated| compensated.error.is_some()) {
            write!(f, "{separator}`{}`", compensated.step)?;
            separator = ", ";
        }
        Ok(())
    }
}

impl Error for ChainError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
