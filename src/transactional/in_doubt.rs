//! Determines, from the record of the call, whether an unanswered commit has taken effect.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

use super::answer::Key;
use super::control::set_rollback_only;
use super::current::current;
use super::dialect::Dialect;
use super::error::TransactionError;
use super::results::CommitOutcome;
use super::transactor::Transactor;
use crate::idempotency_keys::{self, CallKey};
use crate::key_hash::KeyHash;

/// The longest time of the lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a lookup that failed.
const LOOKUP_PAUSE: Duration = Duration::from_millis(200);

/// Looks for the record that a transaction was to commit.
pub(super) struct RecordLookup<'a, DB: Dialect> {
    pub(super) transactor: &'a Transactor<DB>,
    pub(super) key: &'a CallKey,
    /// How long a claim without an answer is kept.
    pub(super) kept_for: Duration,
    pub(super) emit_meta: bool,
}

impl<DB: Dialect> Key for RecordLookup<'_, DB> {
    fn hash(&self) -> KeyHash {
        self.key.hash()
    }

    fn look_up_commit<'a>(
        &'a self,
        result: &'a McpResult<ToolResult>,
    ) -> BoxFuture<'a, CommitOutcome<McpResult<ToolResult>>> {
        let found = async move {
            loop {
                match self.look_up(result).await {
                    Ok(outcome) => return outcome,
                    Err(_) => sleep(LOOKUP_PAUSE).await,
                }
            }
        };
        async move { timeout(LOOKUP_TIMEOUT, found).await.unwrap_or(CommitOutcome::Unknown) }.boxed()
    }
}

impl<DB: Dialect> RecordLookup<'_, DB> {
    /// A missing record proves nothing, but a claim in its place does: the claim waits for the end of the transaction,
    /// if that is still open.
    async fn look_up(
        &self,
        result: &McpResult<ToolResult>,
    ) -> Result<CommitOutcome<McpResult<ToolResult>>, TransactionError> {
        let transactor = self.transactor.clone().with_timeout(LOOKUP_TIMEOUT);
        let record = transactor.run(&(), || async {
            let mut connection = current::<DB>().await?;
            // The reply to this commit could be lost, too.
            set_rollback_only()?;
            if DB::claim(&mut connection, self.key, None, self.kept_for).await? {
                return Ok::<_, TransactionError>(None);
            }
            Ok(Some(DB::find(&mut connection, &self.key.id).await?))
        });
        let record = match record.await? {
            None => return Ok(CommitOutcome::RolledBack),
            Some(record) => record.filter(|record| record.fingerprint == self.key.fingerprint),
        };
        let Some(recorded) = record.and_then(|record| record.result) else { return Ok(CommitOutcome::Unknown) };
        let ours = idempotency_keys::to_record(result, self.key.origin.connection.as_deref());
        if ours.is_some_and(|ours| ours == recorded) {
            return Ok(CommitOutcome::Committed);
        }
        Ok(match idempotency_keys::from_record(&recorded, self.key, self.emit_meta) {
            Some(answer) => CommitOutcome::OtherResult(answer),
            None => CommitOutcome::Unknown,
        })
    }
}
