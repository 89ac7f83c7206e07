use std::time::Duration;

/// How much a transaction sees of those that run beside it.
///
/// The levels are those of the [SQL standard as PostgreSQL has them][levels]. SQLite's transactions are always serializable.
///
/// [levels]: https://www.postgresql.org/docs/current/transaction-iso.html
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it began. The database's usual default.
    ReadCommitted,
    /// Every statement sees what was committed before the first one.
    RepeatableRead,
    /// As if transactions ran one after the other. Those that cannot are retried.
    Serializable,
}

/// What happens where a transaction is wanted and there may be one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Propagation {
    /// Joins the transaction of the call, or begins one. If the part that joined fails, the whole is rolled back.
    #[default]
    Required,
    /// Begins a transaction of its own on another connection, which commits whatever happens to the outer one.
    ///
    /// Outer transactions leave one connection of their pool to those inside of them, which take turns if there are no more. Inside one
    /// that is inside another already, give the pool a connection for each: a call that holds all of them is told
    /// [so](super::TransactionError::WaitsForItself), and one that finds none in time is
    /// [overloaded](super::TransactionError::Overloaded). On SQLite the inner one can only read, since the outer one holds the lock.
    RequiresNew,
    /// Opens a savepoint in the transaction of the call, or begins one. A failure undoes the part only.
    Nested,
    /// Joins the transaction of the call. There must be one.
    Mandatory,
}

/// How a transaction is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(hidden)]
pub struct Begin {
    pub(super) isolation: Option<Isolation>,
    pub(super) read_only: bool,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) lock_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

/// A setting that the database does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Unsupported(pub(super) &'static str);
