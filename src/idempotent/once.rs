//! One call with a key: claimed, made, and its end recorded.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::IdempotentTool;
use super::claims::{Ended, Found, Held};
use super::store::StoreError;
use crate::idempotency::{self, CallKey, IDEMPOTENCY, KeyCounts, Told};
use crate::outcome::{self, ErrorKind};

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
            Ok(None) => return inner.call_tool(name, args, ctx).await,
            Err(refused) => return counts.answer(Told::Refused, &refused),
        };
        let held = match self.claims.claim(&call, ctx).await {
            Ok(Found::Nothing(held)) => held,
            Ok(found) => return self.told(&counts, &call, found),
            Err(error) => return closed(&counts, name, &error),
        };
        self.run(&counts, &call, held, ctx, || inner.call_tool(name, args, ctx)).await
    }

    /// Makes the call, and sees to it that what became of it is known. Dropped while it runs, or unwound, it is ambiguous.
    async fn run<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        counts: &KeyCounts,
        call_key: &CallKey,
        mut held: Held,
        ctx: &RequestContext,
        call: impl FnOnce() -> F,
    ) -> McpResult<ToolResult> {
        if ctx.is_cancelled() {
            held.release().await;
            return counts.answer(Told::Cancelled, &cancelled());
        }
        let key = call_key.key.as_str();
        held.begin();
        let mut result = call().await;
        let is_not_executed = outcome::failure(&result).map(|failure| match &self.not_executed {
            Some(not_executed) => not_executed(&failure),
            None => failure.is_not_executed(),
        });
        match is_not_executed {
            Some(false) => {
                counts.count(Told::Ambiguous);
                held.abandon().await;
                outcome::note(&mut result, IDEMPOTENCY, "ambiguous");
                tracing::warn!(tool = counts.tool, key, "a call failed, and it is not known what it did");
            }
            Some(true) if !self.idempotency.records_failures() => {
                counts.count(Told::Released);
                held.release().await;
            }
            None | Some(true) => {
                let ended = match idempotency::to_record(&result, call_key.origin.connection.as_deref()) {
                    Some(record) => held.complete(record, self.idempotency.ttl()).await,
                    None => {
                        held.abandon().await;
                        Ended::Unknown
                    }
                };
                match ended {
                    Ended::Yes => counts.count(Told::Recorded),
                    Ended::WithoutAnswer | Ended::Lost | Ended::Unknown => {
                        counts.count(Told::NotRecorded);
                        tracing::warn!(
                            tool = counts.tool,
                            key,
                            ?ended,
                            "the answer to a call with a key was not recorded"
                        );
                        outcome::note(&mut result, IDEMPOTENCY, "not_recorded");
                    }
                }
            }
        }
        result
    }

    /// The answer to a call that is not made.
    fn told(&self, counts: &KeyCounts, call: &CallKey, found: Found) -> McpResult<ToolResult> {
        match found {
            Found::Other => counts.answer(Told::Refused, &call.refused()),
            Found::Running => counts.answer(Told::InProgress, &call.in_progress(RETRY_AFTER)),
            Found::Cancelled => counts.answer(Told::Cancelled, &cancelled()),
            Found::Answer(record) => match idempotency::from_record(&record, call, self.tells) {
                Some(result) => {
                    counts.count(Told::Replayed);
                    result
                }
                None => closed(counts, &counts.tool, &StoreError::unavailable("the record of an answer is unreadable")),
            },
            Found::Ambiguous | Found::Nothing(_) => {
                tracing::warn!(tool = call.tool, key = call.key, "the outcome of a call is not known: resolve it");
                counts.answer(Told::Ambiguous, &ambiguous(call))
            }
        }
    }
}

/// The answer while the store cannot be trusted. Whether a call was made cannot be known then, so none is made.
fn closed(counts: &KeyCounts, tool: &str, error: &StoreError) -> McpResult<ToolResult> {
    tracing::warn!(%error, tool, "a call with a key was not made");
    match error {
        StoreError::Full => counts.answer(
            Told::Overloaded,
            &McpError::new(
                ErrorKind::ServerOverloaded,
                "You have too many calls with idempotency keys that are not forgotten yet; nothing was done by this one",
            ),
        ),
        StoreError::Unavailable(_) => counts.answer(
            Told::Unavailable,
            &McpError::unavailable("The record of idempotency keys is not available; this call did nothing"),
        ),
    }
}

fn ambiguous(call: &CallKey) -> McpError {
    McpError::internal(format!(
        "An earlier call with the idempotency key `{}` ended without an answer: it may or may not have taken effect. It is not \
         made again. Find out whether it took effect before you call with a new key",
        call.key
    ))
    .with_data(json!({ IDEMPOTENCY: "ambiguous" }))
}

fn cancelled() -> McpError {
    McpError::cancelled("The call was cancelled before it began; nothing was done by it")
}
