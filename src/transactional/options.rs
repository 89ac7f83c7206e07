use std::time::Duration;

/// How much a transaction sees of concurrent transactions.
///
/// The levels are those of the [SQL standard as PostgreSQL has them][levels]. SQLite's transactions are always serializable.
///
/// [levels]: https://www.postgresql.org/docs/current/transaction-iso.html
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees everything that was committed before the statement began. The database's usual default.
    ReadCommitted,
    /// Every statement sees everything that was committed before the first statement began.
    RepeatableRead,
    /// Transactions have the effect of running one after the other. Those that cannot are retried.
    Serializable,
}

/// How a new transaction relates to one that the call is already in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Propagation {
    /// Joins the transaction of the call, or begins one. If the joined part fails, the whole transaction is rolled back.
    #[default]
    Required,
    /// Begins a transaction of its own on another connection. It commits whatever happens to the outer one.
    ///
    /// Outer transactions leave one connection of their pool to the inner ones, which use it one after the other if there are no more. For
    /// deeper nesting, give the pool a connection for each level: a call that holds all of them fails with
    /// [`WaitsForItself`](super::TransactionError::WaitsForItself), and one that finds none in time with
    /// [`Overloaded`](super::TransactionError::Overloaded). On SQLite, the inner one can only read, since the outer one holds the lock.
    RequiresNew,
    /// Opens a savepoint in the transaction of the call, or begins a transaction. A failure undoes only the nested part.
    Nested,
    /// Joins the transaction of the call. Without one, it fails with [`None`](super::TransactionError::None).
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

/// A setting that the database does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Unsupported(pub(super) &'static str);
