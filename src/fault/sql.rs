//! Errors of sqlx, PostgreSQL and SQLite.

use sqlx::Error;
use sqlx::error::DatabaseError;

use super::{Fault, Judged, may_have_run, not_run, of_io};

/// Judges the error of a statement.
pub(crate) fn of_sql(error: &Error) -> Judged {
    match error {
        Error::Database(error) => of_answer(error.as_ref()),
        Error::Io(error) => of_io(error),
        // There was no connection, or no transaction.
        Error::PoolTimedOut | Error::PoolClosed | Error::Tls(_) | Error::BeginFailed => not_run(Fault::Unavailable),
        // The connection broke, perhaps after the statement was sent.
        Error::Protocol(_) | Error::WorkerCrashed => may_have_run(Fault::Unavailable),
        Error::Configuration(_) | Error::InvalidArgument(_) | Error::Encode(_) | Error::InvalidSavePointStatement => {
            not_run(Fault::Permanent)
        }
        // The reply came, and could not be read.
        _ => may_have_run(Fault::Permanent),
    }
}

/// Judges the error of a commit: its outcome is certain only if the database refused to commit.
pub(crate) fn of_commit(error: &Error) -> Judged {
    let judged = of_sql(error);
    let is_refused = error.as_database_error().is_some_and(is_certain_of_commit);
    Judged { may_have_run: judged.may_have_run || !is_refused, ..judged }
}

/// Returns whether SQLite may have rolled back a whole transaction with the statement: it does so without memory or
/// disk space, after an IO error, and after an interrupt.
#[cfg(feature = "transactional")]
pub(crate) fn may_undo_transaction(error: &Error) -> bool {
    #[cfg(feature = "sqlite")]
    return error.as_database_error().and_then(sqlite).is_some_and(|code| matches!(code & 0xff, 7 | 9 | 10 | 13));
    #[cfg(not(feature = "sqlite"))]
    {
        let _ = error;
        false
    }
}

/// Names the database of an error, if the error shows it.
pub(crate) fn backend_of(error: &Error) -> &'static str {
    #[cfg(feature = "postgres")]
    if error.as_database_error().is_some_and(|error| postgres(error).is_some()) {
        return "PostgreSQL";
    }
    #[cfg(feature = "sqlite")]
    if error.as_database_error().is_some_and(|error| sqlite(error).is_some()) {
        return "SQLite";
    }
    let _ = error;
    "SQL"
}

#[cfg(feature = "postgres")]
fn postgres(error: &dyn DatabaseError) -> Option<&sqlx::postgres::PgDatabaseError> {
    error.try_downcast_ref()
}

/// The result code.
#[cfg(feature = "sqlite")]
fn sqlite(error: &dyn DatabaseError) -> Option<u32> {
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?.code()?.parse().ok()
}

fn of_answer(error: &dyn DatabaseError) -> Judged {
    #[cfg(feature = "postgres")]
    if let Some(error) = postgres(error) {
        return of_sqlstate(error.code(), ends_session(error));
    }
    #[cfg(feature = "sqlite")]
    if let Some(code) = sqlite(error) {
        return of_result_code(code);
    }
    let _ = error;
    may_have_run(Fault::Permanent)
}

fn is_certain_of_commit(error: &dyn DatabaseError) -> bool {
    #[cfg(feature = "postgres")]
    if let Some(error) = postgres(error) {
        // A session that is ended may have committed before. One that was idle in its transaction has not.
        return !ends_session(error) || error.code() == IDLE_IN_TRANSACTION;
    }
    let _ = error;
    true
}

/// `idle_in_transaction_session_timeout`.
#[cfg(feature = "postgres")]
const IDLE_IN_TRANSACTION: &str = "25P03";

#[cfg(feature = "postgres")]
fn ends_session(error: &sqlx::postgres::PgDatabaseError) -> bool {
    use sqlx::postgres::PgSeverity;
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// By [SQLSTATE](https://www.postgresql.org/docs/current/errcodes-appendix.html), and whether the error has ended the session.
///
/// A statement that ends with an `ERROR` has been rolled back. With a `FATAL` error of some codes the server refuses a session, or
/// ends it between two statements, or in the middle of one, which is rolled back then. Any other end of a session proves nothing.
#[cfg(feature = "postgres")]
pub(super) fn of_sqlstate(code: &str, ends_session: bool) -> Judged {
    let fault = match code {
        "40001" | "40P01" => Fault::Conflict,
        "55P03" | "57014" | "25P03" | "25P04" => Fault::Timeout,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "58000" | "58030" => Fault::Unavailable,
        _ if code.starts_with("08") || code.starts_with("53") => Fault::Unavailable,
        _ if ends_session => Fault::Unavailable,
        _ => Fault::Permanent,
    };
    let is_certain = match code {
        // `statement_completion_unknown` and `transaction_resolution_unknown`.
        "40003" | "08007" => false,
        _ if !ends_session => true,
        // The session was ended by an administrator, or by one of its timeouts.
        "57P01" | "25P03" | "25P04" | "57P05" | "57P04" => true,
        // The session never began.
        "57P03" | "08001" | "08004" | "3D000" => true,
        _ => code.starts_with("53") || code.starts_with("28"),
    };
    if is_certain { not_run(fault) } else { may_have_run(fault) }
}

/// By [result code](https://www.sqlite.org/rescode.html); an extended code has its primary code in the low byte.
///
/// A statement that fails is rolled back. Of an IO error, or without memory, SQLite does not say how far a commit had come.
#[cfg(feature = "sqlite")]
pub(super) fn of_result_code(code: u32) -> Judged {
    match code & 0xff {
        // SQLITE_BUSY and SQLITE_LOCKED.
        5 | 6 => not_run(Fault::Conflict),
        // SQLITE_INTERRUPT.
        9 => not_run(Fault::Timeout),
        // SQLITE_NOMEM and SQLITE_IOERR.
        7 | 10 => may_have_run(Fault::Unavailable),
        // SQLITE_FULL and SQLITE_CANTOPEN.
        13 | 14 => not_run(Fault::Unavailable),
        _ => not_run(Fault::Permanent),
    }
}
