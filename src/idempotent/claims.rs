//! Claims a call, or waits for the outcome of another call with its key.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use turbomcp_core::McpError;

use super::backend::BackendError;
use super::held_claim::{Found, HeldClaim, Terms};
use crate::cancellation::{Cancellation, cancelled};
use crate::clock::later;
use crate::idempotency_keys::{self, CallKey, Resolved};
use crate::masked::{CallLabel, error_id};
use crate::scope;

/// Claims calls, and waits for those of other callers.
#[derive(Clone)]
pub(super) struct Claims {
    pub(super) terms: Terms,
    /// The longest wait of a call for another one with its key.
    pub(super) wait: Duration,
}

/// The pauses between checks of a running call.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Claims {
    /// Claims a call, or waits for the outcome of another call with its key.
    pub(super) async fn claim(
        &self,
        call: &Arc<CallKey>,
        cancellation: &impl Cancellation,
    ) -> Result<Found, BackendError> {
        let end = later(Instant::now(), self.wait);
        let mut pause = FIRST_PAUSE;
        while !cancellation.is_cancelled() {
            match self.look(call).await? {
                Found::Running => {}
                Found::Ambiguous(age) if self.ends_after(age) => {
                    let id = error_id();
                    let refusal = call.unresolved(&id);
                    if self.end_for_good(call, &refusal).await? {
                        let (label, backend) = (CallLabel::current(), self.terms.backend.name());
                        let (key_hash, attempt) = (call.hash(), label.attempt);
                        tracing::warn!(
                            id,
                            tool = call.tool,
                            key_hash = key_hash.as_str(),
                            attempt,
                            backend,
                            "an ambiguous call was not resolved in time: its key is refused"
                        );
                        return Ok(Found::Unresolved(refusal));
                    }
                    // It was resolved meanwhile: check again.
                    continue;
                }
                found => return Ok(found),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Found::Running);
            }
            select(Box::pin(sleep(pause.min(left))), Box::pin(cancelled(cancellation))).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        Ok(Found::Cancelled)
    }

    fn ends_after(&self, age: Duration) -> bool {
        self.terms.idempotency.final_refusal_after().is_some_and(|after| age >= after)
    }

    /// Makes the refusal the answer to an ambiguous call. Returns false if it is no longer ambiguous.
    async fn end_for_good(&self, call: &CallKey, refusal: &McpError) -> Result<bool, BackendError> {
        let Some(refusal) = idempotency_keys::to_record(&Ok(refusal.to_tool_result()), None) else {
            return Err(BackendError::unavailable("a refusal cannot be written"));
        };
        let (backend, ttl) = (&self.terms.backend, self.terms.idempotency.ttl());
        let step = || backend.get().resolve(&call.id, Some(&refusal), ttl);
        Ok(backend.attempt(step).await? == Resolved::Yes)
    }

    /// Claims a call in its own task: if the caller leaves meanwhile, the claim has no receiver, so it is dropped and
    /// released.
    async fn look(&self, call: &Arc<CallKey>) -> Result<Found, BackendError> {
        let (found, arrives) = oneshot::channel();
        let held = HeldClaim::new(self.terms.clone(), Arc::clone(call));
        // A backend in the database of a transaction must see that the call is inside it.
        tokio::spawn(scope::capture().enter(async move {
            let _ = found.send(held.claim().await);
        }));
        let backend = &self.terms.backend;
        match timeout(backend.timeout, arrives).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(BackendError::unavailable("the runtime shuts down")),
            Err(_) => {
                let error = BackendError::unavailable("no answer in time");
                backend.note_failure(&error);
                Err(error)
            }
        }
    }
}
