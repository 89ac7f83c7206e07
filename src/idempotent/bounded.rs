//! A backend with a timeout for each step, and a log of its failures.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::backend::{Backend, BackendError};
use crate::telemetry::{Outage, Over, Warning};

/// A backend, and the timeout of each of its steps.
#[derive(Clone)]
pub(super) struct BoundedBackend {
    backend: Arc<dyn Backend>,
    pub(super) timeout: Duration,
    pub(super) warnings: Arc<Warnings>,
}

/// The log entries of a backend that fails.
#[derive(Default)]
pub(super) struct Warnings {
    outage: Outage,
    pub(super) renewing: Warning,
    pub(super) ending: Warning,
}

impl BoundedBackend {
    pub(super) fn new(backend: impl Backend, timeout: Duration) -> Self {
        Self { backend: Arc::new(backend), timeout, warnings: Arc::default() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.get().name()
    }

    /// Returns the backend itself. Through the `Arc`, each step would be boxed once more.
    pub(super) fn get(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(super) fn shared(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// Takes a step, which may hang or panic, within the timeout.
    pub(super) async fn attempt<T, F: Future<Output = Result<T, BackendError>>>(
        &self,
        step: impl FnOnce() -> F,
    ) -> Result<T, BackendError> {
        self.attempt_within(self.timeout, step).await
    }

    pub(super) async fn attempt_within<T, F: Future<Output = Result<T, BackendError>>>(
        &self,
        limit: Duration,
        step: impl FnOnce() -> F,
    ) -> Result<T, BackendError> {
        let done = match timeout(limit, AssertUnwindSafe(async { step().await }).catch_unwind()).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(BackendError::unavailable("the backend panicked")),
            Err(_) => Err(BackendError::unavailable("no answer in time")),
        };
        match &done {
            Err(error @ BackendError::Unavailable(_)) => self.note_failure(error),
            Ok(_) | Err(BackendError::Full) => {
                if let Some(Over { after_ms, failures }) = self.warnings.outage.worked() {
                    tracing::info!(after_ms, failures, "the backend of idempotency keys works again");
                }
            }
        }
        done
    }

    pub(super) fn note_failure(&self, error: &BackendError) {
        if let Some(unsaid) = self.warnings.outage.failed() {
            tracing::warn!(%error, unsaid, "the backend of idempotency keys fails");
        }
    }
}
