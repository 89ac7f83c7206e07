use std::fmt;
use std::time::Duration;

use serde_json::json;
use turbomcp_core::{ErrorKind, McpError};

use crate::fault::Fault;

/// The entry of an error's data that says how a transaction ended.
pub const TRANSACTION: &str = "mcp-patterns/transaction";

/// The reason code of a transaction that ended before its tool did.
pub(super) const ENDED_EARLY: &str = "ended_early";

/// Why a transaction failed. Callers may read its text: it names no statement and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionError {
    /// There is no transaction here: no `TransactionalTool` acts on the tool, or its work was moved to another task.
    None,
    /// Another part of the same call holds the connection of the transaction.
    Held,
    /// A statement failed. The log has its error, under this id.
    Statement {
        /// What the error means for the transaction.
        fault: Fault,
        /// The id of the error in the log.
        id: String,
    },
    /// No transaction could be begun, or the database could not commit it. Nothing was done.
    Unavailable {
        /// The id of the error in the log.
        id: String,
    },
    /// The call is inside a transaction, needs another connection of the same pool, and found none in time. Nothing was done.
    Overloaded,
    /// The call waits for something that its own transaction holds: the only connection of the pool, or the write lock of the
    /// database. Nothing was done.
    WaitsForItself,
    /// Every attempt conflicted with another transaction. Nothing was done.
    Conflict {
        /// The number of attempts.
        attempts: u32,
    },
    /// The tool succeeded, but a part of the transaction had failed or requested a rollback. Nothing was done.
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
    /// The transaction ended before the tool did: by a `COMMIT` or a `ROLLBACK` of the tool, or by the database after an error. The
    /// effects of the tool may have been kept, in part or as a whole.
    EndedEarly,
    /// The connection was lost during the commit, or outside a transaction during a statement. It is not known whether it was done.
    Unknown {
        /// The id of the error in the log.
        id: String,
    },
}

impl TransactionError {
    /// Returns the id of the error in the log, if it is logged.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Statement { id, .. } | Self::Unavailable { id } | Self::Unknown { id } => Some(id),
            _ => None,
        }
    }

    /// The reason code for programs.
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
                    Fault::Conflict => "A statement conflicted with another transaction",
                    Fault::Timeout => "The database took too long for a statement",
                    Fault::Unavailable => "The database is not available",
                    Fault::Permanent => "The database refused a statement",
                };
                write!(f, "{sentence} (error {id})")
            }
            Self::Unavailable { id } => write!(f, "The database is not available; nothing was done (error {id})"),
            Self::Overloaded => {
                f.write_str("All connections to the database are in use by other calls; nothing was done")
            }
            Self::WaitsForItself => f.write_str(
                "The call waits for a connection or a lock that its own transaction holds; nothing was done",
            ),
            Self::Conflict { attempts } => {
                write!(f, "Other calls changed the data in each of {attempts} attempts; nothing was done")
            }
            Self::RolledBack => f.write_str("A part of the transaction failed, so nothing was done"),
            Self::Leaked => f.write_str("The transaction was still in use when the tool returned; nothing was done"),
            Self::TimedOut { after } => write!(f, "Not finished within {} ms; nothing was done", after.as_millis()),
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
