//! How the engine reads the results of its bodies, of any type.

use futures_util::future::BoxFuture;

use super::error::TransactionError;
use super::metrics::End;
use crate::masked::CallLabel;

/// Reads and makes the results of the bodies that run in transactions.
pub(super) trait Results<R>: Sync {
    fn is_success(&self, result: &R) -> bool;

    /// Makes the result of a body from an error of its transaction.
    fn failure(&self, error: TransactionError) -> R;

    /// Whether the outer transaction, which the body has joined, may still be committed.
    fn lets_outer_commit(&self, result: &R) -> bool {
        self.is_success(result)
    }

    /// Takes the statement that a success is to be committed with.
    fn take_last_statement(&self, _: &mut R) -> Option<String> {
        None
    }

    /// Marks a failure whose transaction had ended earlier, so that some of it may have been kept.
    fn note_ended_early(&self, _: &mut R) {}

    /// Marks a result that needed several transactions.
    fn note_attempts(&self, _: &mut R, _: u32) {}

    /// Looks up whether a transaction with this result was committed. `None` if it cannot be known.
    fn look_up_commit<'a>(&'a self, _: &'a R) -> Option<BoxFuture<'a, CommitOutcome<R>>> {
        None
    }

    /// Records the end of a transaction that joined no other. Without a result, its caller got none.
    fn note_end(&self, _: Option<&R>, _: End) {}

    /// Names the call for the log, at an attempt of its transaction.
    fn label(&self, attempt: u32) -> CallLabel {
        CallLabel::current().with_attempt(attempt)
    }

    /// Records that a transaction conflicted with another, and that a new one begins.
    fn note_retry(&self) {}

    /// Whether the body may run again in a new transaction.
    fn may_repeat(&self) -> bool {
        true
    }
}

/// The outcome of a commit that was not answered.
pub(super) enum CommitOutcome<R> {
    Committed,
    /// It was rolled back, and can no longer be committed. Another call has this result.
    OtherResult(R),
    /// It was rolled back, and can no longer be committed.
    RolledBack,
    Unknown,
}

impl<R> CommitOutcome<R> {
    pub(super) fn map<T>(self, map: impl FnOnce(R) -> T) -> CommitOutcome<T> {
        match self {
            Self::Committed => CommitOutcome::Committed,
            Self::OtherResult(result) => CommitOutcome::OtherResult(map(result)),
            Self::RolledBack => CommitOutcome::RolledBack,
            Self::Unknown => CommitOutcome::Unknown,
        }
    }
}
