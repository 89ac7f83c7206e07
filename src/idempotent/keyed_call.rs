//! One call with a key: claimed, made, and its end recorded.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::backend::BackendError;
use super::builder::{IdempotentTool, Predicate};
use super::held_claim::{Ended, Found, HeldClaim};
use crate::ConfigError;
use crate::detached::run_to_end;
use crate::idempotency_keys::{self, CallKey, IDEMPOTENCY, Idempotency, KeyCounts, KeyOutcome};
use crate::masked::{CallLabel, error_id};
use crate::outcome::{self, ErrorKind, Failure, Unfinished};
use crate::scope;

/// The time after which a caller should ask again for the result of the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes a call with a key, unless the key has an answer. A call without a key passes.
pub(super) async fn make_once<H: McpHandler>(
    tool: &IdempotentTool,
    counts: Arc<KeyCounts>,
    inner: &H,
    name: &str,
    mut args: Value,
    ctx: &RequestContext,
) -> McpResult<ToolResult> {
    let idempotency = tool.idempotency();
    let call = match idempotency.key(&tool.space, name, &counts.arguments, &mut args, ctx) {
        Ok(Some(call)) => Arc::new(call),
        // On the heap, so that the future of a call with a key stays small.
        Ok(None) => return Box::pin(inner.call_tool(name, args, ctx)).await,
        Err(refused) => return counts.answer(KeyOutcome::Refused, &refused),
    };
    let held = match tool.claims.claim(&call, ctx).await {
        Ok(Found::Nothing(held)) => held,
        Ok(found) => return answer_found(tool, &counts, &call, found),
        Err(error) => return refuse(tool, &counts, &call, &error),
    };
    if ctx.is_cancelled() {
        held.release().await;
        return counts.answer(KeyOutcome::Cancelled, &cancelled());
    }
    // The log names the call by its key.
    let labelled = scope::capture().with(Arc::clone(&call));
    let run = Run { counts, call, idempotency: Arc::clone(idempotency), not_executed: tool.not_executed.clone() };
    let (inner, name, ctx) = (inner.clone(), name.to_owned(), ctx.clone());
    let made = run.make(held, async move || inner.call_tool(&name, args, &ctx).await).boxed();
    match scope::is_in_transaction() {
        true => labelled.enter(made).await,
        // If the caller leaves, the outcome of the call is still recorded for later calls with its key.
        false => run_to_end(labelled.enter(made).boxed()).await,
    }
}

/// The answer to a call that is not made.
fn answer_found(tool: &IdempotentTool, counts: &KeyCounts, call: &CallKey, found: Found) -> McpResult<ToolResult> {
    match found {
        Found::Other => counts.answer(KeyOutcome::Refused, &call.refused()),
        Found::Running => counts.answer(KeyOutcome::InProgress, &call.in_progress(RETRY_AFTER)),
        Found::Cancelled => counts.answer(KeyOutcome::Cancelled, &cancelled()),
        Found::Answer(record) => match idempotency_keys::from_record(&record, call, tool.emit_meta) {
            Some(result) => {
                counts.count(KeyOutcome::Replayed);
                result
            }
            None => refuse(tool, counts, call, &BackendError::unavailable("the record of an answer is unreadable")),
        },
        Found::Unresolved(refusal) => counts.answer(KeyOutcome::Unresolved, &refusal),
        Found::Ambiguous(_) | Found::Nothing(_) => {
            let (id, attempt, backend) = (error_id(), CallLabel::current().attempt, tool.backend_name());
            let (tool, key_hash) = (&call.tool, call.hash());
            let key_hash = key_hash.as_str();
            tracing::warn!(id, tool, key_hash, attempt, backend, "the outcome of a call is not known: resolve it");
            counts.answer(KeyOutcome::Ambiguous, &call.ambiguous(&id))
        }
    }
}

/// The answer while the backend fails: it cannot be known whether a call was made, so none is made.
fn refuse(tool: &IdempotentTool, counts: &KeyCounts, call: &CallKey, error: &BackendError) -> McpResult<ToolResult> {
    let (id, attempt, backend) = (error_id(), CallLabel::current().attempt, tool.backend_name());
    let (tool, key_hash) = (&call.tool, call.hash());
    let key_hash = key_hash.as_str();
    tracing::warn!(%error, id, tool, key_hash, attempt, backend, "a call with a key was not made");
    match error {
        BackendError::Full => {
            let sentence =
                "You have too many calls with idempotency keys that have not expired yet; nothing was done by this one";
            let error = McpError::new(ErrorKind::ServerOverloaded, sentence);
            counts.answer(KeyOutcome::Overloaded, &error.with_data(json!({ IDEMPOTENCY: "overloaded" })))
        }
        BackendError::Unavailable(cause) => {
            let refusal = match cause.downcast_ref::<ConfigError>() {
                Some(missing) => {
                    let sentence =
                        format!("Idempotency keys cannot be used: {missing}; this call did nothing (error {id})");
                    McpError::internal(sentence).with_data(json!({ IDEMPOTENCY: "no_table" }))
                }
                None => {
                    let sentence =
                        format!("The record of idempotency keys is not available; this call did nothing (error {id})");
                    McpError::unavailable(sentence).with_data(json!({ IDEMPOTENCY: "unavailable" }))
                }
            };
            counts.answer(KeyOutcome::Unavailable, &refusal)
        }
    }
}

/// A claimed call, with everything that it needs if its caller leaves.
struct Run {
    counts: Arc<KeyCounts>,
    call: Arc<CallKey>,
    idempotency: Arc<Idempotency>,
    not_executed: Option<Predicate>,
}

impl Run {
    /// Makes the call and records its outcome. If it is dropped while it runs, or panics, it is ambiguous.
    async fn make<F: Future<Output = McpResult<ToolResult>>>(
        self,
        mut held: HeldClaim,
        call: impl FnOnce() -> F,
    ) -> McpResult<ToolResult> {
        held.begin();
        let mut result = call().await;
        let end = outcome::failure(&result).map_or(End::Answer, |failure| self.end_of(&failure));
        match end {
            End::Ambiguous => {
                self.counts.count(KeyOutcome::Ambiguous);
                held.abandon().await;
                outcome::note(&mut result, IDEMPOTENCY, "ambiguous");
                let key_hash = self.call.hash();
                let (tool, key_hash) = (&self.counts.tool, key_hash.as_str());
                tracing::warn!(tool, key_hash, "a call failed, and it is not known what it did");
            }
            End::NotExecuted => {
                self.counts.count(KeyOutcome::Released);
                held.release().await;
            }
            End::Answer => {
                let ended = match idempotency_keys::to_record(&result, self.call.origin.connection.as_deref()) {
                    Some(record) => held.complete(record, self.idempotency.ttl()).await,
                    None => {
                        held.abandon().await;
                        Ended::Unknown
                    }
                };
                match ended {
                    Ended::Yes => self.counts.count(KeyOutcome::Recorded),
                    Ended::WithoutAnswer | Ended::Lost | Ended::Unknown => {
                        self.counts.count(KeyOutcome::NotRecorded);
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

    fn end_of(&self, failure: &Failure<'_>) -> End {
        match failure.unfinished() {
            Some(Unfinished::InputRequired) => return End::NotExecuted,
            // The same key gets the same task.
            Some(_) => return End::Answer,
            None => {}
        }
        let is_not_executed = match &self.not_executed {
            Some(not_executed) => not_executed(failure),
            None => failure.is_not_executed(),
        };
        match is_not_executed {
            false => End::Ambiguous,
            // The refusal of a layer further in is no answer of the tool: it may be let through the next time.
            true if self.idempotency.records_failures() && !failure.is_turned_away() => End::Answer,
            true => End::NotExecuted,
        }
    }
}

/// What the end of a call means for its key.
enum End {
    /// It is the answer for the key.
    Answer,
    /// The key is free.
    NotExecuted,
    Ambiguous,
}

fn cancelled() -> McpError {
    McpError::cancelled("The call was cancelled before it began; nothing was done by it")
        .with_data(json!({ IDEMPOTENCY: "cancelled" }))
}
