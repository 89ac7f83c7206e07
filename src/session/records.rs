//! The records of sessions in a backend: each step is bounded, counted, and logged when it fails.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use super::SessionError;
use super::backend::{Backend, BackendError, Record, Write, Written};
use super::write_queue::Writer;
use crate::telemetry::{Counter, Outage, Over, Warning};

pub(super) struct Records {
    backend: Box<dyn Backend>,
    counters: [Counter; Operation::ALL.len()],
    outage: Outage,
    full: Warning,
}

/// An operation on a session, as it is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Read,
    Written,
    /// Another process wrote first; the change is tried again.
    Conflicted,
    Full,
    Unavailable,
    Refused,
}

impl Operation {
    /// In the order of the variants.
    const ALL: [&'static str; 6] = ["read", "written", "conflicted", "full", "unavailable", "refused"];
}

/// How long a step may take.
pub(super) enum Limit<'a, 'w> {
    Timeout(Duration),
    /// As long as the writer may wait.
    Writer(&'a mut Writer<'w>),
}

impl Records {
    pub(super) fn new(backend: impl Backend) -> Self {
        Self {
            backend: Box::new(backend),
            counters: Operation::ALL
                .map(|outcome| Counter::new("mcp_patterns_session_operations_total", &[("outcome", outcome)])),
            outage: Outage::default(),
            full: Warning::default(),
        }
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(super) fn count(&self, operation: Operation) {
        self.counters[operation as usize].increment();
    }

    pub(super) async fn load(&self, limit: Limit<'_, '_>, id: &str) -> Result<Option<Record>, SessionError> {
        let record = self.step(limit, self.backend.load(id)).await;
        let record = record.map_err(|error| SessionError::of_step(error, SessionError::Unavailable))?;
        self.count(Operation::Read);
        Ok(record)
    }

    /// Creates the record, or replaces the one of version `expected`.
    pub(super) async fn write(
        &self,
        limit: Limit<'_, '_>,
        id: &str,
        expected: Option<u64>,
        write: Write<'_>,
    ) -> Result<Written, SessionError> {
        let step = match expected {
            None => self.backend.create(id, write),
            Some(expected) => self.backend.compare_and_swap(id, expected, write),
        };
        self.step(limit, step).await.map_err(write_error)
    }

    /// Keeps a record for `ttl` from now.
    pub(super) async fn touch(&self, limit: Limit<'_, '_>, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        self.step(limit, self.backend.touch(id, ttl)).await
    }

    pub(super) async fn delete(
        &self,
        limit: Limit<'_, '_>,
        id: &str,
        expected: Option<u64>,
    ) -> Result<bool, SessionError> {
        self.step(limit, self.backend.delete(id, expected)).await.map_err(write_error)
    }

    /// Counts and logs that the caller's share is full.
    pub(super) fn no_room(&self) -> SessionError {
        self.count(Operation::Full);
        if let Some(unsaid) = self.full.due() {
            tracing::warn!(unsaid, "a caller's share of the sessions is full");
        }
        SessionError::NoRoom
    }

    /// Counts and logs that the backend answered none of the writers before this one.
    pub(super) fn unanswered(&self) -> SessionError {
        SessionError::Unavailable(self.failed(BackendError::not_taken("no answer to the writes before this one")))
    }

    async fn step<T>(
        &self,
        limit: Limit<'_, '_>,
        step: impl Future<Output = Result<T, BackendError>> + Unpin,
    ) -> Result<T, BackendError> {
        let ended = match limit {
            Limit::Writer(writer) => writer.wait(step).await,
            Limit::Timeout(limit) => timeout(limit, step).await,
        };
        match ended.unwrap_or_else(|_| Err(BackendError::new("no answer in time"))) {
            Ok(done) => {
                if let Some(Over { after_ms, failures }) = self.outage.worked() {
                    tracing::info!(after_ms, failures, "the session backend works again");
                }
                Ok(done)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Counts a failure of the backend, and logs it at most once in ten seconds.
    fn failed(&self, error: BackendError) -> BackendError {
        self.count(Operation::Unavailable);
        if !error.concerns_all() {
            tracing::debug!(%error, "a session was not used: the transaction of its call fails");
        } else if let Some(unsaid) = self.outage.failed() {
            tracing::warn!(%error, unsaid, "the session backend fails");
        }
        error.of_backend(self.backend.name())
    }
}

/// The failure of a step that writes.
fn write_error(error: BackendError) -> SessionError {
    let otherwise = if error.may_be_taken() { SessionError::OutcomeUnknown } else { SessionError::Unavailable };
    SessionError::of_step(error, otherwise)
}
