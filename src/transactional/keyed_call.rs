//! A call that takes effect once, by its key.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use turbomcp_core::{McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::answer::{Answer, ByOutcome, Ending};
use super::current::current;
use super::dialect::Dialect;
use super::error::TransactionError;
use super::in_doubt::RecordLookup;
use super::in_flight::{Admission, InFlight};
use super::metrics::TransactionCounts;
use super::records::{EXPIRED, RECORDS, kept_for};
use super::results::Results;
use super::transactor::Transactor;
use crate::fault::Fault;
use crate::idempotency_keys::{self, CallKey, IDEMPOTENCY, Idempotency, KeyCounts, KeyOutcome};
use crate::masked::{CallLabel, error_id};
use crate::outcome;
use crate::questions::Questions;
use crate::sweeper::Sweeper;

/// The time after which a caller should ask again for the result of the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The state that all calls with keys share.
#[derive(Debug)]
pub(super) struct KeyedCalls {
    pub(super) in_flight: InFlight,
    sweeper: Sweeper,
}

impl Default for KeyedCalls {
    fn default() -> Self {
        Self { in_flight: InFlight::default(), sweeper: Sweeper::new(&EXPIRED) }
    }
}

/// One call with a key.
pub(super) struct KeyedCall<'a, DB: Dialect> {
    pub(super) transactor: &'a Transactor<DB>,
    pub(super) shared: &'a KeyedCalls,
    pub(super) wait: Duration,
    pub(super) idempotency: &'a Idempotency,
    pub(super) key: &'a CallKey,
    pub(super) counts: &'a KeyCounts,
    pub(super) transactions: &'a TransactionCounts,
    pub(super) emit_meta: bool,
    pub(super) questions: Option<&'a Questions>,
}

impl<DB: Dialect> KeyedCall<'_, DB> {
    pub(super) async fn run<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        ctx: &RequestContext,
        call: impl Fn() -> F,
    ) -> McpResult<ToolResult> {
        let first = match self.shared.in_flight.admit(&self.key.id, self.wait, ctx).await {
            Admission::First(first) => Some(first),
            Admission::AskDatabase => None,
            Admission::InProgress => return self.in_progress(),
            Admission::Cancelled => {
                return self.counts.answer(KeyOutcome::Cancelled, &TransactionError::Cancelled.into());
            }
        };
        let is_claiming = AtomicBool::new(false);
        // If it is a part of another transaction, the time of that commit is unknown.
        let with_commit = self.transactor.begins_one();
        let lookup = RecordLookup {
            transactor: self.transactor,
            key: self.key,
            kept_for: self.kept_for(),
            emit_meta: self.emit_meta,
        };
        let results = ByOutcome {
            counts: self.transactions,
            key: Some(&lookup),
            emit_meta: self.emit_meta,
            questions: self.questions,
        };
        let mut answer = self
            .transactor
            .drive(false, ctx, &results, || async {
                let attempt = self.attempt(with_commit, &is_claiming, &call).await;
                attempt.unwrap_or_else(|error| results.failure(error))
            })
            .await;
        self.shared.sweeper.sweep_now_and_then(&self.transactor.pool);
        let has_answer = match answer.end {
            Ending::Recorded(_) => {
                self.counts.count(KeyOutcome::Recorded);
                true
            }
            Ending::Unused | Ending::Unresolved => true,
            Ending::EndedEarly => {
                self.mark_ambiguous().await;
                outcome::note(&mut answer.result, IDEMPOTENCY, "ambiguous");
                true
            }
            // It timed out while it waited for the first call with its key in another process.
            Ending::Failed if is_claiming.into_inner() && !ctx.is_cancelled() => return self.in_progress(),
            Ending::ByResult if self.idempotency.records_failures() => self.record_failure(&answer.result).await,
            Ending::ByResult | Ending::Failed => false,
        };
        if let Some(first) = first.filter(|_| has_answer) {
            first.has_answer();
        }
        answer.result
    }

    /// Makes the call unless its key has an answer. The claim, the effects of the call and the record commit together.
    async fn attempt<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        with_commit: bool,
        is_claiming: &AtomicBool,
        call: &impl Fn() -> F,
    ) -> Result<Answer, TransactionError> {
        let mut connection = current::<DB>().await?;
        is_claiming.store(true, Ordering::Relaxed);
        let claimed = DB::claim(&mut connection, self.key, None, self.kept_for()).await;
        is_claiming.store(false, Ordering::Relaxed);
        let claimed = claimed.map_err(|error| {
            let missing = RECORDS.missing_by(&error);
            // Logged, and noted for the transaction, in either case.
            let error = TransactionError::from(error);
            if missing.is_some() { TransactionError::NoTable } else { error }
        });
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(TransactionError::Statement { fault: Fault::Timeout, .. }) => {
                return Ok(Answer { result: self.in_progress(), end: Ending::Unused });
            }
            Err(error) => return Err(error),
        };
        if !claimed {
            return self.known(&mut connection).await;
        }
        drop(connection);
        let result = call().await;
        if outcome::failure(&result).is_some() {
            return Ok(Answer { result, end: Ending::ByResult });
        }
        let Some(record) = self.to_record(&result) else {
            return Err(TransactionError::RolledBack);
        };
        let last = if with_commit { DB::recording(&self.key.id, &record, self.idempotency.ttl()) } else { None };
        if last.is_none() {
            let mut connection = current::<DB>().await?;
            if !DB::is_open(&mut connection).await? {
                return Err(TransactionError::EndedEarly);
            }
            if !DB::complete(&mut connection, &self.key.id, &record, self.idempotency.ttl()).await? {
                // The tool has deleted the record.
                return Err(TransactionError::RolledBack);
            }
        }
        Ok(Answer { result, end: Ending::Recorded(last) })
    }

    fn kept_for(&self) -> Duration {
        kept_for(self.idempotency.kept_for())
    }

    /// The answer to a call whose key is in use.
    async fn known(&self, connection: &mut DB::Connection) -> Result<Answer, TransactionError> {
        let unused = |result| Ok(Answer { result, end: Ending::Unused });
        let Some(record) = DB::find(connection, &self.key.id).await? else { return unused(self.in_progress()) };
        if record.fingerprint != self.key.fingerprint {
            return unused(self.counts.answer(KeyOutcome::Refused, &self.key.refused()));
        }
        if let Some(result) = &record.result {
            let Some(answer) = idempotency_keys::from_record(result, self.key, self.emit_meta) else {
                return unused(self.in_progress());
            };
            self.counts.count(KeyOutcome::Replayed);
            return unused(answer);
        }
        let Some(age) = record.ambiguous_for() else { return unused(self.in_progress()) };
        let (id, label, backend) = (error_id(), CallLabel::current(), DB::NAME);
        let (tool, key_hash, attempt) = (label.tool(), label.key_hash(), label.attempt);
        let refusal = self.idempotency.final_refusal_after().filter(|after| age >= *after);
        let refusal = refusal.map(|_| self.key.unresolved(&id));
        if let Some(refusal) = refusal
            && let Some(record) = idempotency_keys::to_record(&Ok(refusal.to_tool_result()), None)
            && DB::resolve(connection, &self.key.id, Some(&record), self.idempotency.ttl()).await?
        {
            tracing::warn!(
                id,
                tool,
                key_hash,
                attempt,
                backend,
                "an ambiguous call was not resolved in time: its key is refused"
            );
            let result = self.counts.answer(KeyOutcome::Unresolved, &refusal);
            return Ok(Answer { result, end: Ending::Unresolved });
        }
        tracing::warn!(id, tool, key_hash, attempt, backend, "the outcome of a call is not known: resolve it");
        unused(self.counts.answer(KeyOutcome::Ambiguous, &self.key.ambiguous(&id)))
    }

    /// Prevents another use of the key: the effects of the call may have been kept, while its claim may be undone.
    async fn mark_ambiguous(&self) {
        self.counts.count(KeyOutcome::Ambiguous);
        let marked: Result<(), TransactionError> = self
            .transactor
            .run(&(), || async {
                let mut connection = current::<DB>().await?;
                // If the claim was kept, it exists already.
                DB::claim(&mut connection, self.key, None, self.kept_for()).await?;
                Ok(())
            })
            .await;
        let (tool, key_hash) = (&self.key.tool, self.key.hash());
        let key_hash = key_hash.as_str();
        match marked {
            Ok(()) => {
                tracing::warn!(
                    tool,
                    key_hash,
                    "a tool ended its transaction, and it is not known what it did: resolve it"
                );
            }
            Err(error) => {
                tracing::error!(%error, tool, key_hash, "a tool ended its transaction, and its key could not be marked as ambiguous");
            }
        }
    }

    fn to_record(&self, result: &McpResult<ToolResult>) -> Option<String> {
        idempotency_keys::to_record(result, self.key.origin.connection.as_deref())
    }

    fn in_progress(&self) -> McpResult<ToolResult> {
        self.counts.answer(KeyOutcome::InProgress, &self.key.in_progress(RETRY_AFTER))
    }

    /// Records a failure in its own transaction, since that of the call was rolled back, with its claim. Returns
    /// whether it did.
    async fn record_failure(&self, result: &McpResult<ToolResult>) -> bool {
        // The refusal of a layer further in is no answer of the tool.
        let is_failure =
            outcome::failure(result).is_some_and(|failure| failure.unfinished().is_none() && !failure.is_turned_away());
        let Some(record) = self.to_record(result).filter(|_| is_failure) else {
            return false;
        };
        let recorded: Result<(), TransactionError> = self
            .transactor
            .run(&(), || async {
                let mut connection = current::<DB>().await?;
                if DB::claim(&mut connection, self.key, None, self.kept_for()).await? {
                    DB::complete(&mut connection, &self.key.id, &record, self.idempotency.ttl()).await?;
                }
                Ok(())
            })
            .await;
        match &recorded {
            Ok(()) => self.counts.count(KeyOutcome::Recorded),
            Err(error) => tracing::warn!(%error, tool = self.key.tool, "a failure could not be recorded"),
        }
        recorded.is_ok()
    }
}
