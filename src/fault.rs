//! The meaning of a backend's error, for all layers: its kind, and whether the statement may have run.
//!
//! The table is in [the guide](crate::guide::transactions#what-an-error-of-the-database-means). Tests compare it with the code.

/// The meaning of an error of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "transactional"), expect(unreachable_pub, reason = "`transactional` exports it"))]
pub enum Fault {
    /// The transaction conflicted with another one: a new transaction may succeed. Serialization failures, deadlocks, a busy
    /// database.
    Conflict,
    /// The statement, or its wait for a lock, took longer than allowed.
    Timeout,
    /// The database cannot be reached, is shutting down, or lacks connections, memory or disk space.
    Unavailable,
    /// Anything else: the statement itself is wrong, or violates a constraint.
    Permanent,
}

/// The two facts about an error of a statement outside of a transaction. Inside one, nothing is final before the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) fault: Fault,
    /// Whether the statement may have taken effect despite the error.
    pub(crate) may_have_run: bool,
}

const fn not_run(fault: Fault) -> Judged {
    Judged { fault, may_have_run: false }
}

const fn may_have_run(fault: Fault) -> Judged {
    Judged { fault, may_have_run: true }
}

/// Judges an error of the operating system. Only one of a connection that was never made proves that nothing was sent.
fn of_io(error: &std::io::Error) -> Judged {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, ConnectionRefused, NotFound};
    let is_unconnected = matches!(error.kind(), ConnectionRefused | NotFound | AddrInUse | AddrNotAvailable)
        || cfg!(unix) && matches!(error.raw_os_error(), Some(TOO_MANY_FILES | TOO_MANY_FILES_IN_SYSTEM));
    if is_unconnected { not_run(Fault::Unavailable) } else { may_have_run(Fault::Unavailable) }
}

/// `EMFILE` and `ENFILE`: no socket could be made.
const TOO_MANY_FILES: i32 = 24;
const TOO_MANY_FILES_IN_SYSTEM: i32 = 23;

#[cfg(any(feature = "transactional", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "transactional")]
pub(crate) use sql::may_undo_transaction;
#[cfg(any(feature = "transactional", feature = "postgres", feature = "sqlite"))]
pub(crate) use sql::{backend_of, is_missing_table, of_commit, of_sql};

#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
pub(crate) use redis::of_redis;

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod tests;
