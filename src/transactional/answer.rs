use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use turbomcp_core::{McpError, McpResult};
use turbomcp_types::ToolResult;

use super::drive::Results;
use super::error::{ENDED_EARLY, TRANSACTION, TransactionError};
use super::in_doubt::FoundOut;
use super::metrics::{End, Ends};
use crate::key_hash::KeyHash;
use crate::masked::CallLabel;
use crate::outcome;
use crate::questions::Questions;

/// The answer to a call, and how the transaction is to end with it.
pub(super) struct Answer {
    pub(super) result: McpResult<ToolResult>,
    pub(super) end: Wanted,
}

#[derive(Debug)]
pub(super) enum Wanted {
    /// As the result says.
    ByResult,
    /// Committed, after this statement if there is one: the answer is recorded.
    Recorded(Option<String>),
    /// Nothing was done in it, because the key has its answer.
    Unused,
    /// Committed: that the call is refused from now on.
    Unresolved,
    /// Nothing can be done in it.
    Failed,
    /// It had ended before: some of it may be done.
    EndedEarly,
}

/// The key of a call.
pub(super) trait Key: Sync {
    fn hash(&self) -> KeyHash;

    /// Finds out whether a transaction was committed that has recorded this answer, or another one.
    fn find_out<'a>(&'a self, result: &'a McpResult<ToolResult>) -> BoxFuture<'a, FoundOut<McpResult<ToolResult>>>;
}

/// Commits what succeeded in the eyes of a caller.
pub(super) struct ByOutcome<'a> {
    pub(super) ends: &'a Ends,
    /// The call's key, if it has one.
    pub(super) key: Option<&'a dyn Key>,
    /// Whether an answer says what it took.
    pub(super) tells: bool,
    pub(super) questions: Option<&'a Questions>,
}

impl Results<Answer> for ByOutcome<'_> {
    fn is_success(&self, answer: &Answer) -> bool {
        match answer.end {
            Wanted::ByResult => outcome::failure(&answer.result).is_none(),
            Wanted::Recorded(_) | Wanted::Unresolved => true,
            Wanted::Unused | Wanted::Failed | Wanted::EndedEarly => false,
        }
    }

    fn failed(&self, error: TransactionError) -> Answer {
        let end = if error == TransactionError::EndedEarly { Wanted::EndedEarly } else { Wanted::Failed };
        Answer { result: Ok(McpError::from(error).to_tool_result()), end }
    }

    /// A replay does.
    fn spares_the_whole(&self, answer: &Answer) -> bool {
        !matches!(answer.end, Wanted::Failed | Wanted::EndedEarly) && outcome::failure(&answer.result).is_none()
    }

    fn take_last_statement(&self, answer: &mut Answer) -> Option<String> {
        match &mut answer.end {
            Wanted::Recorded(last) => last.take(),
            _ => None,
        }
    }

    fn note_ended_early(&self, answer: &mut Answer) {
        outcome::note(&mut answer.result, TRANSACTION, ENDED_EARLY);
        answer.end = Wanted::EndedEarly;
    }

    fn note_attempts(&self, answer: &mut Answer, attempts: u32) {
        if self.tells {
            outcome::note(&mut answer.result, TRANSACTION, json!({ "attempts": attempts }));
        }
    }

    fn note_end(&self, answer: Option<&Answer>, end: End) {
        let is_unused = answer.is_some_and(|answer| matches!(answer.end, Wanted::Unused));
        self.ends.count(if is_unused { End::Unused } else { end });
    }

    fn label(&self, attempt: u32) -> CallLabel {
        let label = self.ends.label().with_attempt(attempt);
        match self.key {
            Some(key) => label.with_key_hash(key.hash()),
            None => label,
        }
    }

    fn find_out<'a>(&'a self, answer: &'a Answer) -> Option<BoxFuture<'a, FoundOut<Answer>>> {
        let found_out = self.key?.find_out(&answer.result);
        Some(found_out.map(|found_out| found_out.map(|result| Answer { result, end: Wanted::Unused })).boxed())
    }

    fn note_retry(&self) {
        self.ends.count_retry();
    }

    fn may_repeat(&self) -> bool {
        !self.questions.is_some_and(Questions::were_asked)
    }
}
