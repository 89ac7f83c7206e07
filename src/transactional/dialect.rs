use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use super::records::Records;

use super::options::{Begin, Unsupported};

/// What differs between databases. Implemented for `sqlx::Postgres` and `sqlx::Sqlite`.
pub trait Dialect: Records {
    /// Writes the statements that begin a transaction, all of them in one round trip.
    #[doc(hidden)]
    fn begin(begin: &Begin) -> Result<String, Unsupported>;

    /// Whether one transaction that writes waits for the end of the other.
    #[doc(hidden)]
    const HAS_ONE_WRITER: bool;

    /// Restores what `begin` changed of the connection, before the transaction ends.
    #[doc(hidden)]
    fn before_end(
        begin: &Begin,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Writes a statement that records the answer to a claimed call and fails if the claim is gone, where it spares a round trip
    /// to send it with the commit.
    #[doc(hidden)]
    fn recording(id: &str, record: &str, ttl: Duration) -> Option<String>;

    /// Commits, after the statement `last` if there is one, with an error if that fails or the transaction cannot be committed any
    /// more: then it is rolled back. Returns whether the next transaction may begin in place of the empty one that follows.
    #[doc(hidden)]
    fn commit(
        connection: &mut Self::Connection,
        last: Option<String>,
    ) -> impl Future<Output = Result<bool, NotCommitted>> + Send;

    /// Rolls back. False if there is no transaction any more: what ran in it has ended it.
    #[doc(hidden)]
    fn rollback(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Says whether a transaction is there, where one was begun.
    #[doc(hidden)]
    fn is_open(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Says what an error means for the transaction.
    #[doc(hidden)]
    fn fault(error: &sqlx::Error) -> Fault;

    /// Runs statements that take no arguments.
    #[doc(hidden)]
    fn execute(
        connection: &mut Self::Connection,
        sql: Cow<'static, str>,
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

/// Why a transaction was not committed.
#[derive(Debug)]
#[doc(hidden)]
pub struct NotCommitted {
    pub(super) error: sqlx::Error,
    /// Whether the transaction was still there at its end.
    pub(super) was_open: bool,
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
