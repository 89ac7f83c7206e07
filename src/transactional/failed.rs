//! Logs an error of the database under an id, and hides its text from the caller.

use turbomcp_core::McpError;

use super::control::Control;
use super::error::TransactionError;
use crate::fault::{self, Judged};
use crate::masked::{CallLabel, error_id};
use crate::scope;

/// Logs the error under an id and notes its meaning for the current transaction, so that a conflict is retried although the tool maps
/// the error to one of its own.
///
/// Outside a transaction, a statement may have taken effect although its connection was lost: that is
/// [`Unknown`](TransactionError::Unknown).
impl From<sqlx::Error> for TransactionError {
    fn from(error: sqlx::Error) -> Self {
        let (id, label) = (error_id(), CallLabel::current());
        let control = scope::current::<Control>();
        let backend = control.as_ref().map_or_else(|| fault::backend_of(&error), |control| control.backend);
        let Judged { fault, may_have_run } = match &control {
            // The transaction is rolled back.
            Some(control) => Judged { fault: control.note(&error), may_have_run: false },
            None => fault::of_sql(&error),
        };
        let (tool, key_hash, attempt) = (label.tool(), label.key_hash(), label.attempt);
        tracing::warn!(%error, ?fault, may_have_run, id, tool, key_hash, attempt, backend, "a statement failed");
        if may_have_run { Self::Unknown { id } } else { Self::Statement { fault, id } }
    }
}

/// Masks a database error for the caller: `sqlx::query(..).execute(&mut *db).await.map_err(transactional::failed)?`.
///
/// The caller reads [the meaning](crate::guide::transactions#what-an-error-of-the-database-means) of the error: `unavailable` if nothing
/// was sent, and an unknown outcome if the connection was lost afterwards. Inside a transaction, both mean that nothing was done. Outside
/// a transaction, they are about this one statement: a tool that has done something before must not return such an error unchanged, or
/// must use a transaction.
#[must_use]
pub fn failed(error: sqlx::Error) -> McpError {
    TransactionError::from(error).into()
}
