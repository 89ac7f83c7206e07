use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a step of a [`Backend`] returns.
pub type BackendFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Where sessions are kept: one record for each, with a version that every write changes.
///
/// Each step is atomic and one round trip: of two replicas that write at the same time, one comes first, and the other is told so.
/// An expired record is none. A step that is sent twice, because its answer got lost on the way, has the effect of one.
///
/// Replicas have clocks of their own, any of which may be wrong. So every time here is a duration, which begins when the backend takes
/// the step, and the backend measures it by the one clock that all replicas share: that of the database, never that of the process. The
/// end of a session is kept with its record, by the same clock.
///
/// [`session_backend_contract`](crate::testing::session_backend_contract) checks an implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep sessions",
    label = "not a `Backend`",
    note = "the backends of this crate are `MemoryBackend`, `RedisBackend` and `SqlBackend`"
)]
pub trait Backend: Send + Sync + 'static {
    /// Names the backend for the log. Default: `custom`.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// Keeps the first record of a session, of whoever [opens](Write::opener) it. If there is one, it stays as it is and is returned.
    fn create<'a>(&'a self, id: &'a str, write: Write<'a>) -> BackendFuture<'a, Written>;

    /// Finds a record.
    fn load<'a>(&'a self, id: &'a str) -> BackendFuture<'a, Option<Record>>;

    /// Replaces the record if it has the version `expected`. If it has not, it stays as it is and is returned. The
    /// [end](Write::ends_in) of the session stays in either case.
    fn compare_and_swap<'a>(&'a self, id: &'a str, expected: u64, write: Write<'a>) -> BackendFuture<'a, Written>;

    /// Keeps a record for `ttl` from now on, but no longer than until the session [ends](Write::ends_in). False if there is none.
    fn touch<'a>(&'a self, id: &'a str, ttl: Duration) -> BackendFuture<'a, bool>;

    /// Deletes a record; with a version, only if it has that one. False if nothing was deleted.
    fn delete<'a>(&'a self, id: &'a str, expected: Option<u64>) -> BackendFuture<'a, bool>;
}

/// What is to be kept of a session.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Write<'a> {
    /// A new random number for each write, between 1 and 2^63 - 1. A record with this version is this write's already.
    pub version: u64,
    /// Text that means nothing to the backend.
    pub data: &'a str,
    /// How long to keep it, from now, but no longer than until the session ends.
    pub ttl: Duration,
    /// When the session ends at the latest, from now, whatever is written later. It counts for the first record only.
    /// [`Duration::MAX`], or anything from a century on: never.
    pub ends_in: Duration,
    /// Who opens the session, where this is its first record. Where room is bounded, each opener has a share of it.
    pub opener: Option<Opener<'a>>,
}

/// Who opens a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opener<'a> {
    /// The caller, hashed: 64 hexadecimal digits.
    pub caller: &'a str,
    /// The connection of a caller whom nobody knows, hashed. All of these are one caller.
    pub connection: Option<&'a str>,
}

/// What is kept of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of the last write.
    pub version: u64,
    /// The text of the last write.
    pub data: String,
    /// How long it is kept, from now.
    pub expires_in: Duration,
    /// When the session [ends](Write::ends_in) at the latest, from now: no sooner than the record expires.
    pub ends_in: Duration,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Yes,
    /// It is not: somebody else has written. This is what there is now.
    No(Option<Record>),
    /// It is not: there is no room for it in the opener's share.
    Full,
}

/// Why a step of a [`Backend`] failed. Callers of tools never see its text; the log does.
#[derive(Debug, Clone)]
pub struct BackendError {
    error: Arc<dyn Error + Send + Sync>,
    may_be_taken: bool,
    /// The name of the backend.
    backend: &'static str,
}

impl BackendError {
    /// Wraps what went wrong with a step of which it is not known whether it was taken.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: Arc::from(error.into()), may_be_taken: true, backend: "custom" }
    }

    /// Wraps what went wrong with a step that was certainly not taken: it was not sent, or the backend refused it.
    #[must_use]
    pub fn not_taken(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { may_be_taken: false, ..Self::new(error) }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn of_sql(error: sqlx::Error) -> Self {
        match crate::fault::of_sql(&error).may_have_run {
            true => Self::new(error),
            false => Self::not_taken(error),
        }
    }

    #[cfg(feature = "redis")]
    pub(super) fn of_redis(error: redis::RedisError) -> Self {
        match crate::fault::of_redis(&error).may_have_run {
            true => Self::new(error),
            false => Self::not_taken(error),
        }
    }

    /// The same of a step that had another one before it, which has changed nothing.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn after_no_change(self) -> Self {
        Self { may_be_taken: false, ..self }
    }

    pub(super) fn of_backend(self, backend: &'static str) -> Self {
        Self { backend, ..self }
    }

    pub(super) fn backend(&self) -> &'static str {
        self.backend
    }

    pub(super) fn may_be_taken(&self) -> bool {
        self.may_be_taken
    }

    /// Wraps what went wrong in the transaction of the call, and concerns nobody else.
    #[cfg(all(feature = "transactional", any(feature = "postgres", feature = "sqlite")))]
    pub(super) fn in_transaction(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        // If it was, it is undone with the transaction.
        Self::not_taken(InTransaction(error.into()))
    }

    /// Whether the backend has failed, and not only the call.
    pub(super) fn concerns_all(&self) -> bool {
        !self.error.is::<InTransaction>() && !self.waits_for_itself()
    }

    /// Whether the step was not begun, because it would have waited for a transaction that waits for it.
    pub(super) fn waits_for_itself(&self) -> bool {
        #[cfg(all(feature = "transactional", any(feature = "postgres", feature = "sqlite")))]
        return self.error.is::<crate::connections::WaitsForItself>();
        #[cfg(not(all(feature = "transactional", any(feature = "postgres", feature = "sqlite"))))]
        false
    }
}

/// What went wrong in the transaction of a call.
#[derive(Debug)]
struct InTransaction(Box<dyn Error + Send + Sync>);

impl fmt::Display for InTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for InTransaction {}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn create<'a>(&'a self, id: &'a str, write: Write<'a>) -> BackendFuture<'a, Written> {
        (**self).create(id, write)
    }

    fn load<'a>(&'a self, id: &'a str) -> BackendFuture<'a, Option<Record>> {
        (**self).load(id)
    }

    fn compare_and_swap<'a>(&'a self, id: &'a str, expected: u64, write: Write<'a>) -> BackendFuture<'a, Written> {
        (**self).compare_and_swap(id, expected, write)
    }

    fn touch<'a>(&'a self, id: &'a str, ttl: Duration) -> BackendFuture<'a, bool> {
        (**self).touch(id, ttl)
    }

    fn delete<'a>(&'a self, id: &'a str, expected: Option<u64>) -> BackendFuture<'a, bool> {
        (**self).delete(id, expected)
    }
}
