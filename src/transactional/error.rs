use std::fmt;
use std::time::Duration;

use serde_json::json;
use turbomcp_core::{ErrorKind, McpError};

use super::current::Control;
use crate::fault::{self, Fault, Judged};
use crate::masked::{CallLabel, error_id};
use crate::scope;

/// The entry of an error's data that says what became of a transaction.
pub const TRANSACTION: &str = "mcp-patterns/transaction";

/// The word for a transaction that was ended before its tool was.
pub(super) const ENDED_EARLY: &str = "ended_early";

/// Why a transaction did not do what it was asked to. Its text is fit for a caller: it names no statement and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionError {
    /// There is no transaction here: the tool is not named to a `TransactionalTool`, or its work was moved to another task.
    None,
    /// The connection of the transaction is held elsewhere in the same call.
    Held,
    /// A statement failed. The log has its error, under this id.
    Statement {
        /// What the error means for the transaction.
        fault: Fault,
        /// What the log calls the error.
        id: String,
    },
    /// No transaction could be begun, or the database could not commit it. Nothing was done.
    Unavailable {
        /// What the log calls the error.
        id: String,
    },
    /// The call is inside a transaction and needs another connection of the same pool, and found none in time. Nothing was done.
    Overloaded,
    /// The call waits for what the transaction that it is in holds: the only connection of the pool, or the write lock of the
    /// database. Nothing was done.
    WaitsForItself,
    /// Every attempt gave way to another transaction. Nothing was done.
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },
    /// The tool succeeded, but a part of the transaction had failed, or asked for a rollback. Nothing was done.
    RolledBack,
    /// The tool returned while it still held the connection. Nothing was done.
    Leaked,
    /// The transaction took too long. Nothing was done.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The caller cancelled. Nothing was done.
    Cancelled,
    /// The transaction was ended before the tool was: by a `COMMIT` or a `ROLLBACK` of its own, or by the database after an error.
    /// What the tool did may have been kept, in part or as a whole.
    EndedEarly,
    /// The connection was lost during the commit, or outside of a transaction during a statement: nobody knows whether it was done.
    Unknown {
        /// What the log calls the error.
        id: String,
    },
}

impl TransactionError {
    /// Returns what the log calls the error, where it has it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Statement { id, .. } | Self::Unavailable { id } | Self::Unknown { id } => Some(id),
            _ => None,
        }
    }

    /// The machine's word for it.
    const fn reason(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Held => "held",
            Self::Statement { .. } => "statement_failed",
            Self::Unavailable { .. } => "unavailable",
            Self::Overloaded => "overloaded",
            Self::WaitsForItself => "waits_for_itself",
            Self::Conflict { .. } => "conflict",
            Self::RolledBack => "rolled_back",
            Self::Leaked => "leaked",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled => "cancelled",
            Self::EndedEarly => ENDED_EARLY,
            Self::Unknown { .. } => "outcome_unknown",
        }
    }

    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. }
            | Self::Conflict { .. }
            | Self::Statement { fault: Fault::Conflict | Fault::Unavailable, .. } => ErrorKind::Unavailable,
            Self::Overloaded => ErrorKind::ServerOverloaded,
            Self::TimedOut { .. } | Self::Statement { fault: Fault::Timeout, .. } => ErrorKind::Timeout,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::None
            | Self::Held
            | Self::WaitsForItself
            | Self::RolledBack
            | Self::Leaked
            | Self::EndedEarly
            | Self::Unknown { .. }
            | Self::Statement { .. } => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("No transaction is open here"),
            Self::Held => f.write_str("The transaction's connection is held elsewhere in this call"),
            Self::Statement { fault, id } => {
                let sentence = match fault {
                    Fault::Conflict => "A statement gave way to another transaction",
                    Fault::Timeout => "A statement took the database too long",
                    Fault::Unavailable => "The database is not available",
                    Fault::Permanent => "The database refused a statement",
                };
                write!(f, "{sentence} (error {id})")
            }
            Self::Unavailable { id } => write!(f, "The database is not available; nothing was done (error {id})"),
            Self::Overloaded => {
                f.write_str("All connections to the database are in use by other calls; nothing was done")
            }
            Self::WaitsForItself => f.write_str("The call waits for what its own transaction holds; nothing was done"),
            Self::Conflict { attempts } => {
                write!(f, "The data was changed by others in each of {attempts} attempts; nothing was done")
            }
            Self::RolledBack => f.write_str("A part of the transaction failed, so nothing was done"),
            Self::Leaked => f.write_str("The transaction was still in use when it should end; nothing was done"),
            Self::TimedOut { after } => write!(f, "Not done within {} ms; nothing was done", after.as_millis()),
            Self::Cancelled => f.write_str("The call was cancelled; nothing was done"),
            Self::EndedEarly => f.write_str(
                "The transaction ended before the tool did: the call may have taken effect, in part or as a whole",
            ),
            Self::Unknown { id } => {
                write!(
                    f,
                    "The connection to the database was lost: it is not known whether the call took effect (error {id})"
                )
            }
        }
    }
}

impl std::error::Error for TransactionError {}

/// Logs the error under an id and notes what it means for the transaction in whose scope it happened, so that a conflict is
/// retried although the tool maps it to an error of its own.
///
/// Outside of a transaction a statement may have taken effect although its connection was lost: that is
/// [`Unknown`](TransactionError::Unknown).
impl From<sqlx::Error> for TransactionError {
    fn from(error: sqlx::Error) -> Self {
        let (id, label) = (error_id(), CallLabel::current());
        let control = scope::current::<Control>();
        let backend = control.as_ref().map_or_else(|| fault::backend_of(&error), |control| control.backend);
        let Judged { fault, may_have_run } = match &control {
            // It is rolled back.
            Some(control) => Judged { fault: control.note(&error), may_have_run: false },
            None => fault::of_sql(&error),
        };
        let (tool, key_hash, attempt) = (label.tool(), label.key_hash(), label.attempt);
        tracing::warn!(%error, ?fault, may_have_run, id, tool, key_hash, attempt, backend, "a statement failed");
        if may_have_run { Self::Unknown { id } } else { Self::Statement { fault, id } }
    }
}

impl From<TransactionError> for McpError {
    fn from(error: TransactionError) -> Self {
        let mut data = json!({ TRANSACTION: error.reason() });
        if let TransactionError::Conflict { attempts } = error {
            data[crate::outcome::ATTEMPTS] = attempts.into();
            data[crate::outcome::EXHAUSTED] = "attempts".into();
        }
        Self::new(error.kind(), error.to_string()).with_data(data)
    }
}

/// Masks a database error for the caller: `sqlx::query(..).execute(&mut *db).await.map_err(transactional::failed)?`.
///
/// The error is told as [what it is](crate::guide::transactions#what-an-error-of-the-database-means): `unavailable` where nothing was
/// sent, and of unknown outcome where the connection was lost afterwards. Inside a transaction either means that nothing was done.
/// Outside of one, this is about the one statement: a tool that has done something before must not pass an error on as it is, or
/// must use a transaction.
#[must_use]
pub fn failed(error: sqlx::Error) -> McpError {
    TransactionError::from(error).into()
}
