//! A call whose key makes it take effect once.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use turbomcp_core::{McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::answer::{Answer, ByOutcome, Wanted};
use super::current::current;
use super::dialect::Dialect;
use super::drive::Results;
use super::error::TransactionError;
use super::in_flight::{Running, Turn};
use super::metrics::Ends;
use super::records::{EXPIRED, kept_for};
use super::transactor::Transactor;
use crate::fault::Fault;
use crate::idempotency_keys::{self, CallKey, IDEMPOTENCY, Idempotency, KeyCounts, Told};
use crate::masked::{CallLabel, error_id};
use crate::outcome;
use crate::questions::Questions;
use crate::sweeper::Sweeper;

/// How long a caller is told to wait for the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What all calls with keys share.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) running: Running,
    sweeper: Sweeper,
}

impl Default for Keys {
    fn default() -> Self {
        Self { running: Running::default(), sweeper: Sweeper::new(&EXPIRED) }
    }
}

/// One call with a key.
pub(super) struct Once<'a, DB: Dialect> {
    pub(super) transactor: &'a Transactor<DB>,
    pub(super) keys: &'a Keys,
    pub(super) wait: Duration,
    pub(super) idempotency: &'a Idempotency,
    pub(super) key: &'a CallKey,
    pub(super) counts: &'a KeyCounts,
    pub(super) ends: &'a Ends,
    pub(super) tells: bool,
    pub(super) questions: Option<&'a Questions>,
}

impl<DB: Dialect> Once<'_, DB> {
    pub(super) async fn run<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        ctx: &RequestContext,
        call: impl Fn() -> F,
    ) -> McpResult<ToolResult> {
        let first = match self.keys.running.turn(&self.key.id, self.wait, ctx).await {
            Turn::First(first) => Some(first),
            Turn::Ask => None,
            Turn::InProgress => return self.in_progress(),
            Turn::Cancelled => {
                return self.counts.answer(Told::Cancelled, &TransactionError::Cancelled.into());
            }
        };
        let is_claiming = AtomicBool::new(false);
        // Where it is a part of another transaction, nobody knows when that is committed.
        let with_commit = self.transactor.begins_one();
        let results = ByOutcome { ends: self.ends, key: Some(self), tells: self.tells, questions: self.questions };
        let mut answer = self
            .transactor
            .drive(false, ctx, &results, || async {
                let attempt = self.attempt(with_commit, &is_claiming, &call).await;
                attempt.unwrap_or_else(|error| results.failed(error))
            })
            .await;
        self.keys.sweeper.sweep_now_and_then(&self.transactor.pool);
        let has_answer = match answer.end {
            Wanted::Recorded(_) => {
                self.counts.count(Told::Recorded);
                true
            }
            Wanted::Unused | Wanted::Unresolved => true,
            Wanted::EndedEarly => {
                self.mark_ambiguous().await;
                outcome::note(&mut answer.result, IDEMPOTENCY, "ambiguous");
                true
            }
            // The time was over while it waited for the first call with its key, in another process.
            Wanted::Failed if is_claiming.into_inner() && !ctx.is_cancelled() => return self.in_progress(),
            Wanted::ByResult if self.idempotency.records_failures() => self.record_failure(&answer.result).await,
            Wanted::ByResult | Wanted::Failed => false,
        };
        if let Some(first) = first.filter(|_| has_answer) {
            first.has_answer();
        }
        answer.result
    }

    /// Makes the call unless its key has an answer. The claim, what the call does and the record commit together.
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
        let claimed = match claimed.map_err(TransactionError::from) {
            Ok(claimed) => claimed,
            Err(TransactionError::Statement { fault: Fault::Timeout, .. }) => {
                return Ok(Answer { result: self.in_progress(), end: Wanted::Unused });
            }
            Err(error) => return Err(error),
        };
        if !claimed {
            return self.known(&mut connection).await;
        }
        drop(connection);
        let result = call().await;
        if outcome::failure(&result).is_some() {
            return Ok(Answer { result, end: Wanted::ByResult });
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
        Ok(Answer { result, end: Wanted::Recorded(last) })
    }

    pub(super) fn kept_for(&self) -> Duration {
        kept_for(self.idempotency.kept_for())
    }

    /// The answer of a call whose key is taken.
    async fn known(&self, connection: &mut DB::Connection) -> Result<Answer, TransactionError> {
        let unused = |result| Ok(Answer { result, end: Wanted::Unused });
        let Some(record) = DB::find(connection, &self.key.id).await? else { return unused(self.in_progress()) };
        if record.fingerprint != self.key.fingerprint {
            return unused(self.counts.answer(Told::Refused, &self.key.refused()));
        }
        if let Some(result) = &record.result {
            let Some(answer) = idempotency_keys::from_record(result, self.key, self.tells) else {
                return unused(self.in_progress());
            };
            self.counts.count(Told::Replayed);
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
            tracing::warn!(id, tool, key_hash, attempt, backend, "the outcome of a call was not found out in time");
            let result = self.counts.answer(Told::Unresolved, &refusal);
            return Ok(Answer { result, end: Wanted::Unresolved });
        }
        tracing::warn!(id, tool, key_hash, attempt, backend, "the outcome of a call is not known: resolve it");
        unused(self.counts.answer(Told::Ambiguous, &self.key.ambiguous(&id)))
    }

    /// Keeps the key from being used again: what the call did may be done, while its claim may be undone.
    async fn mark_ambiguous(&self) {
        self.counts.count(Told::Ambiguous);
        let marked: Result<(), TransactionError> = self
            .transactor
            .run(&(), || async {
                let mut connection = current::<DB>().await?;
                // Where the claim is done, it is there already.
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
                tracing::error!(%error, tool, key_hash, "a tool ended its transaction, and its key could not be kept");
            }
        }
    }

    pub(super) fn to_record(&self, result: &McpResult<ToolResult>) -> Option<String> {
        idempotency_keys::to_record(result, self.key.origin.connection.as_deref())
    }

    fn in_progress(&self) -> McpResult<ToolResult> {
        self.counts.answer(Told::InProgress, &self.key.in_progress(RETRY_AFTER))
    }

    /// Remembers a failure in a transaction of its own, since what failed was rolled back, and its claim with it. True if it did.
    async fn record_failure(&self, result: &McpResult<ToolResult>) -> bool {
        let Some(record) = self.to_record(result).filter(|_| outcome::failure(result).is_some()) else {
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
            Ok(()) => self.counts.count(Told::Recorded),
            Err(error) => tracing::warn!(%error, tool = self.key.tool, "a failure could not be recorded"),
        }
        recorded.is_ok()
    }
}
