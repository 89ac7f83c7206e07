use std::future::Future;

use super::records::Records;

use super::options::{Begin, Unsupported};

/// What differs between databases. Implemented for `sqlx::Postgres` and `sqlx::Sqlite`.
pub trait Dialect: Records {
    /// Writes the statements that begin a transaction, all of them in one round trip.
    #[doc(hidden)]
    fn begin(begin: &Begin) -> Result<String, Unsupported>;

    /// Restores what `begin` changed of the connection, and finds out whether the transaction can still be committed where it
    /// is to be.
    #[doc(hidden)]
    fn before_end(
        begin: &Begin,
        commit: bool,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Says what an error means for the transaction.
    #[doc(hidden)]
    fn fault(error: &sqlx::Error) -> Fault;

    /// Runs statements that take no arguments.
    #[doc(hidden)]
    fn execute(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What an error means for the transaction in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The database gave way to another transaction: a whole new one may succeed. Serialization failures, deadlocks, a busy
    /// database.
    Conflict,
    /// The database waited for a lock, or worked, longer than it was allowed to.
    Timeout,
    /// The database cannot be reached, is shutting down, or has no connection left.
    Unavailable,
    /// Anything else: the statement itself is wrong, or violates a constraint.
    Permanent,
}

/// What is the same for all databases: errors that come from the way there.
pub(super) fn connection_fault(error: &sqlx::Error) -> Option<Fault> {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Some(Fault::Unavailable),
        _ => None,
    }
}
