use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use super::options::{Begin, Unsupported};
use super::records::Records;

/// A database that transactions run on: `sqlx::Postgres` or `sqlx::Sqlite`.
///
/// The trait is sealed: only this crate implements it, so a later version may add to it.
pub trait Dialect: Records {
    /// Writes the statements that begin a transaction, all of them in one round trip.
    #[doc(hidden)]
    fn begin(begin: &Begin) -> Result<String, Unsupported>;

    /// Whether a writing transaction waits for the end of another.
    #[doc(hidden)]
    const HAS_ONE_WRITER: bool;

    /// Restores the settings of the connection that `begin` changed, before the transaction ends.
    #[doc(hidden)]
    fn before_end(
        begin: &Begin,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Writes a statement that records the answer to a claimed call, and fails if the claim no longer exists. `None` if
    /// sending it with the commit saves no round trip.
    #[doc(hidden)]
    fn recording(id: &str, record: &str, ttl: Duration) -> Option<String>;

    /// Commits, after the statement `last` if there is one. If that fails, or the transaction can no longer be committed, it is rolled back
    /// and this returns an error. Returns whether the next transaction may begin in place of the empty one that follows.
    #[doc(hidden)]
    fn commit(
        connection: &mut Self::Connection,
        last: Option<String>,
    ) -> impl Future<Output = Result<bool, NotCommitted>> + Send;

    /// Rolls back. Returns false if the transaction no longer exists, because its body has ended it.
    #[doc(hidden)]
    fn rollback(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Returns whether the transaction that was begun still exists.
    #[doc(hidden)]
    fn is_open(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Runs statements that take no arguments.
    #[doc(hidden)]
    fn execute(
        connection: &mut Self::Connection,
        sql: Cow<'static, str>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Why a transaction was not committed.
#[derive(Debug)]
#[doc(hidden)]
pub struct NotCommitted {
    pub(super) error: sqlx::Error,
    /// Whether the transaction still existed at its end.
    pub(super) was_open: bool,
}
