//! A commit that was not answered, and how it is found out what became of it.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

use super::answer::Key;
use super::current::{current, set_rollback_only};
use super::dialect::Dialect;
use super::drive::{Ended, PATIENCE, Results};
use super::error::TransactionError;
use super::hooks::Hooks;
use super::keyed_call::Once;
use super::metrics::End;
use super::transactor::Transactor;
use crate::idempotency_keys;
use crate::key_hash::KeyHash;
use crate::masked::CallLabel;

/// What became of a transaction whose commit was not answered.
pub(super) enum FoundOut<R> {
    Committed,
    /// It was rolled back, and can no longer be committed. Another call has this result.
    Instead(R),
    /// It was rolled back, and can no longer be committed.
    RolledBack,
    Unknown,
}

impl<R> FoundOut<R> {
    pub(super) fn map<T>(self, map: impl FnOnce(R) -> T) -> FoundOut<T> {
        match self {
            Self::Committed => FoundOut::Committed,
            Self::Instead(result) => FoundOut::Instead(map(result)),
            Self::RolledBack => FoundOut::RolledBack,
            Self::Unknown => FoundOut::Unknown,
        }
    }
}

impl<DB: Dialect> Transactor<DB> {
    /// Ends a transaction that may be committed: as what it is, if that is found out.
    pub(super) async fn find_out<R>(&self, results: &impl Results<R>, result: R, id: String, hooks: Hooks) -> Ended<R> {
        let found_out = match results.find_out(&result) {
            Some(found_out) => found_out.await,
            None => FoundOut::Unknown,
        };
        let label = CallLabel::current();
        let (tool, key_hash, attempt, backend) = (label.tool(), label.key_hash(), label.attempt, DB::NAME);
        let found = match &found_out {
            FoundOut::Committed => "committed",
            FoundOut::Instead(_) | FoundOut::RolledBack => "rolled_back",
            FoundOut::Unknown => "nothing",
        };
        tracing::info!(id, tool, key_hash, attempt, backend, found, "a commit in doubt was looked into");
        match found_out {
            FoundOut::Committed => {
                if let Some(hooks) = hooks.run() {
                    hooks.wait(PATIENCE).await;
                }
                Ended::Done(result, End::Committed)
            }
            FoundOut::Instead(result) => Ended::Done(result, End::Unused),
            FoundOut::RolledBack => Ended::Done(results.failed(TransactionError::Unavailable { id }), End::Unavailable),
            FoundOut::Unknown => Ended::Done(results.failed(TransactionError::Unknown { id }), End::Unknown),
        }
    }
}

/// How long it is tried to find out what became of a commit.
const FIND_OUT: Duration = Duration::from_secs(5);

/// The pause before the database is asked again that could not be asked.
const PAUSE: Duration = Duration::from_millis(200);

impl<DB: Dialect> Key for Once<'_, DB> {
    fn hash(&self) -> KeyHash {
        self.key.hash()
    }

    fn find_out<'a>(&'a self, result: &'a McpResult<ToolResult>) -> BoxFuture<'a, FoundOut<McpResult<ToolResult>>> {
        let asked = async move {
            loop {
                match self.look(result).await {
                    Ok(found) => return found,
                    Err(_) => sleep(PAUSE).await,
                }
            }
        };
        async move { timeout(FIND_OUT, asked).await.unwrap_or(FoundOut::Unknown) }.boxed()
    }
}

impl<DB: Dialect> Once<'_, DB> {
    /// Looks for the record that the transaction was to commit. That there is none proves nothing, but a claim in its place does:
    /// it waits for the end of the transaction, if that may still come.
    async fn look(&self, result: &McpResult<ToolResult>) -> Result<FoundOut<McpResult<ToolResult>>, TransactionError> {
        let transactor = self.transactor.clone().with_timeout(FIND_OUT);
        let record = transactor.run(&(), || async {
            let mut connection = current::<DB>().await?;
            // A commit could be lost like the one that is looked into.
            set_rollback_only()?;
            if DB::claim(&mut connection, self.key, None, self.kept_for()).await? {
                return Ok::<_, TransactionError>(None);
            }
            Ok(Some(DB::find(&mut connection, &self.key.id).await?))
        });
        let record = match record.await? {
            None => return Ok(FoundOut::RolledBack),
            Some(record) => record.filter(|record| record.fingerprint == self.key.fingerprint),
        };
        let Some(recorded) = record.and_then(|record| record.result) else { return Ok(FoundOut::Unknown) };
        if self.to_record(result).is_some_and(|ours| ours == recorded) {
            return Ok(FoundOut::Committed);
        }
        Ok(match idempotency_keys::from_record(&recorded, self.key, self.tells) {
            Some(answer) => FoundOut::Instead(answer),
            None => FoundOut::Unknown,
        })
    }
}
