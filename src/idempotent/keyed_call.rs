//! One call with a key: claimed, made, and its end recorded.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::IdempotentTool;
use super::backend::StoreError;
use super::claims::{Ended, Found, Held};
use super::layer::Predicate;
use crate::detached::finish;
use crate::idempotency_keys::{self, CallKey, IDEMPOTENCY, Idempotency, KeyCounts, Told};
use crate::masked::{CallLabel, error_id};
use crate::outcome::{self, ErrorKind};
use crate::scope;

/// How long a caller is told to wait for the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl IdempotentTool {
    pub(super) async fn once<H: McpHandler>(
        &self,
        counts: Arc<KeyCounts>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let call = match self.idempotency.key(&self.space, name, &counts.arguments, &mut args, ctx) {
            Ok(Some(call)) => Arc::new(call),
            // On the heap, so that a call with a key does not carry it along.
            Ok(None) => return Box::pin(inner.call_tool(name, args, ctx)).await,
            Err(refused) => return counts.answer(Told::Refused, &refused),
        };
        let held = match self.claims.claim(&call, ctx).await {
            Ok(Found::Nothing(held)) => held,
            Ok(found) => return self.told(&counts, &call, found),
            Err(error) => return self.closed(&counts, &call, &error),
        };
        if ctx.is_cancelled() {
            held.release().await;
            return counts.answer(Told::Cancelled, &cancelled());
        }
        // The log names the call by it.
        let labelled = scope::capture().with(Arc::clone(&call));
        let run =
            Run { counts, call, idempotency: Arc::clone(&self.idempotency), not_executed: self.not_executed.clone() };
        let (inner, name, ctx) = (inner.clone(), name.to_owned(), ctx.clone());
        let made = run.make(held, async move || inner.call_tool(&name, args, &ctx).await).boxed();
        match scope::is_in_transaction() {
            true => labelled.enter(made).await,
            // If the caller leaves, what became of the call is known all the same, to whoever asks with its key.
            false => finish(labelled.enter(made).boxed()).await,
        }
    }

    /// The answer to a call that is not made.
    fn told(&self, counts: &KeyCounts, call: &CallKey, found: Found) -> McpResult<ToolResult> {
        match found {
            Found::Other => counts.answer(Told::Refused, &call.refused()),
            Found::Running => counts.answer(Told::InProgress, &call.in_progress(RETRY_AFTER)),
            Found::Cancelled => counts.answer(Told::Cancelled, &cancelled()),
            Found::Answer(record) => match idempotency_keys::from_record(&record, call, self.tells) {
                Some(result) => {
                    counts.count(Told::Replayed);
                    result
                }
                None => self.closed(counts, call, &StoreError::unavailable("the record of an answer is unreadable")),
            },
            Found::Unresolved(refusal) => counts.answer(Told::Unresolved, &refusal),
            Found::Ambiguous(_) | Found::Nothing(_) => {
                let (id, attempt, backend) = (error_id(), CallLabel::current().attempt, self.claims.store.name());
                let (tool, key_hash) = (&call.tool, call.hash());
                let key_hash = key_hash.as_str();
                tracing::warn!(id, tool, key_hash, attempt, backend, "the outcome of a call is not known: resolve it");
                counts.answer(Told::Ambiguous, &call.ambiguous(&id))
            }
        }
    }

    /// The answer while the store cannot be trusted. Whether a call was made cannot be known then, so none is made.
    fn closed(&self, counts: &KeyCounts, call: &CallKey, error: &StoreError) -> McpResult<ToolResult> {
        let (id, attempt, backend) = (error_id(), CallLabel::current().attempt, self.claims.store.name());
        let (tool, key_hash) = (&call.tool, call.hash());
        let key_hash = key_hash.as_str();
        tracing::warn!(%error, id, tool, key_hash, attempt, backend, "a call with a key was not made");
        match error {
            StoreError::Full => {
                let sentence = "You have too many calls with idempotency keys that are not forgotten yet; nothing was done by this one";
                let error = McpError::new(ErrorKind::ServerOverloaded, sentence);
                counts.answer(Told::Overloaded, &error.with_data(json!({ IDEMPOTENCY: "overloaded" })))
            }
            StoreError::Unavailable(_) => {
                let sentence =
                    format!("The record of idempotency keys is not available; this call did nothing (error {id})");
                let error = McpError::unavailable(sentence).with_data(json!({ IDEMPOTENCY: "unavailable" }));
                counts.answer(Told::Unavailable, &error)
            }
        }
    }
}

/// A call that is claimed, with all that it needs when its caller has left.
struct Run {
    counts: Arc<KeyCounts>,
    call: Arc<CallKey>,
    idempotency: Arc<Idempotency>,
    not_executed: Option<Predicate>,
}

impl Run {
    /// Makes the call, and sees to it that what became of it is known. Dropped while it runs, or unwound, it is ambiguous.
    async fn make<F: Future<Output = McpResult<ToolResult>>>(
        self,
        mut held: Held,
        call: impl FnOnce() -> F,
    ) -> McpResult<ToolResult> {
        held.begin();
        let mut result = call().await;
        let is_not_executed = outcome::failure(&result).map(|failure| match &self.not_executed {
            Some(not_executed) => not_executed(&failure),
            None => failure.is_not_executed(),
        });
        match is_not_executed {
            Some(false) => {
                self.counts.count(Told::Ambiguous);
                held.abandon().await;
                outcome::note(&mut result, IDEMPOTENCY, "ambiguous");
                let key_hash = self.call.hash();
                let (tool, key_hash) = (&self.counts.tool, key_hash.as_str());
                tracing::warn!(tool, key_hash, "a call failed, and it is not known what it did");
            }
            Some(true) if !self.idempotency.records_failures() => {
                self.counts.count(Told::Released);
                held.release().await;
            }
            None | Some(true) => {
                let ended = match idempotency_keys::to_record(&result, self.call.origin.connection.as_deref()) {
                    Some(record) => held.complete(record, self.idempotency.ttl()).await,
                    None => {
                        held.abandon().await;
                        Ended::Unknown
                    }
                };
                match ended {
                    Ended::Yes => self.counts.count(Told::Recorded),
                    Ended::WithoutAnswer | Ended::Lost | Ended::Unknown => {
                        self.counts.count(Told::NotRecorded);
                        let key_hash = self.call.hash();
                        let (tool, key_hash) = (&self.counts.tool, key_hash.as_str());
                        tracing::warn!(tool, key_hash, ?ended, "the answer to a call with a key was not recorded");
                        outcome::note(&mut result, IDEMPOTENCY, "not_recorded");
                    }
                }
            }
        }
        result
    }
}

fn cancelled() -> McpError {
    McpError::cancelled("The call was cancelled before it began; nothing was done by it")
        .with_data(json!({ IDEMPOTENCY: "cancelled" }))
}
