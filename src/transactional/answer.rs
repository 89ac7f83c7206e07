use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use turbomcp_core::{McpError, McpResult};
use turbomcp_types::ToolResult;

use super::error::{ENDED_EARLY, TRANSACTION, TransactionError};
use super::metrics::{End, TransactionCounts};
use super::results::{CommitOutcome, Results};
use crate::key_hash::KeyHash;
use crate::masked::CallLabel;
use crate::outcome;
use crate::questions::Questions;

/// The answer to a call, and the end of its transaction.
pub(super) struct Answer {
    pub(super) result: McpResult<ToolResult>,
    pub(super) end: Ending,
}

#[derive(Debug)]
pub(super) enum Ending {
    /// As the result demands.
    ByResult,
    /// Committed, after this statement if there is one: the answer is recorded.
    Recorded(Option<String>),
    /// Nothing was done in it, because the key already has its answer.
    Unused,
    /// Committed, because it records that the call is refused from now on.
    Unresolved,
    /// The transaction failed.
    Failed,
    /// The transaction ended before its tool: a part of it may have been kept.
    EndedEarly,
}

/// The key of a call.
pub(super) trait Key: Sync {
    fn hash(&self) -> KeyHash;

    /// Looks up whether the transaction with this answer was committed, or another one.
    fn look_up_commit<'a>(
        &'a self,
        result: &'a McpResult<ToolResult>,
    ) -> BoxFuture<'a, CommitOutcome<McpResult<ToolResult>>>;
}

/// Commits exactly the calls whose answer is a success.
pub(super) struct ByOutcome<'a> {
    pub(super) counts: &'a TransactionCounts,
    /// The call's key, if it has one.
    pub(super) key: Option<&'a dyn Key>,
    /// Whether answers get entries in their `_meta`.
    pub(super) emit_meta: bool,
    pub(super) questions: Option<&'a Questions>,
}

impl Results<Answer> for ByOutcome<'_> {
    fn is_success(&self, answer: &Answer) -> bool {
        match answer.end {
            Ending::ByResult => outcome::failure(&answer.result).is_none(),
            Ending::Recorded(_) | Ending::Unresolved => true,
            Ending::Unused | Ending::Failed | Ending::EndedEarly => false,
        }
    }

    fn failure(&self, error: TransactionError) -> Answer {
        let end = if error == TransactionError::EndedEarly { Ending::EndedEarly } else { Ending::Failed };
        Answer { result: Ok(McpError::from(error).to_tool_result()), end }
    }

    /// A replay lets it commit, too.
    fn lets_outer_commit(&self, answer: &Answer) -> bool {
        !matches!(answer.end, Ending::Failed | Ending::EndedEarly) && outcome::failure(&answer.result).is_none()
    }

    fn take_last_statement(&self, answer: &mut Answer) -> Option<String> {
        match &mut answer.end {
            Ending::Recorded(last) => last.take(),
            _ => None,
        }
    }

    fn note_ended_early(&self, answer: &mut Answer) {
        outcome::note(&mut answer.result, TRANSACTION, ENDED_EARLY);
        answer.end = Ending::EndedEarly;
    }

    fn note_attempts(&self, answer: &mut Answer, attempts: u32) {
        if self.emit_meta {
            outcome::note(&mut answer.result, TRANSACTION, json!({ "attempts": attempts }));
        }
    }

    fn note_end(&self, answer: Option<&Answer>, end: End) {
        let is_unused = answer.is_some_and(|answer| matches!(answer.end, Ending::Unused));
        self.counts.count(if is_unused { End::Unused } else { end });
    }

    fn label(&self, attempt: u32) -> CallLabel {
        let label = self.counts.label().with_attempt(attempt);
        match self.key {
            Some(key) => label.with_key_hash(key.hash()),
            None => label,
        }
    }

    fn look_up_commit<'a>(&'a self, answer: &'a Answer) -> Option<BoxFuture<'a, CommitOutcome<Answer>>> {
        let outcome = self.key?.look_up_commit(&answer.result);
        Some(outcome.map(|outcome| outcome.map(|result| Answer { result, end: Ending::Unused })).boxed())
    }

    fn note_retry(&self) {
        self.counts.count_retry();
    }

    fn may_repeat(&self) -> bool {
        !self.questions.is_some_and(Questions::were_asked)
    }
}
