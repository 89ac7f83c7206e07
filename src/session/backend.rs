use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ConfigError;

/// Keeps sessions: one record for each, with a version that every write changes.
///
/// Each step is atomic and one round trip: of two replicas that write at the same time, one succeeds, and the other gets a
/// [conflict](Written::Conflict). An expired record does not exist. A step that is sent twice, because its answer was lost, has the
/// effect of one.
///
/// Replicas have clocks of their own, any of which may be wrong. So every time here is a duration from the moment at which the backend
/// takes the step, and the backend measures it by the one clock that all replicas share: that of the database, never that of the
/// process. The backend also stores the end of a session, by the same clock.
///
/// Implement it with `async-trait`'s `#[async_trait]`. See [the example](super#example-a-backend-of-your-own).
/// [`session_backend_contract`](crate::testing::session_backend_contract) checks an implementation. A later version may add methods
/// that have a default, like [`name`](Self::name) and [`check`](Self::check), and no others.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep sessions",
    label = "not a `Backend`",
    note = "the backends of this crate are `MemoryBackend`, `RedisBackend` and `SqlBackend`"
)]
pub trait Backend: Send + Sync + 'static {
    /// Returns the name of the backend for the log. Default: `custom`.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// Checks the settings of the backend. The layer does so when it is put on a server.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a setting that cannot work. Default: none.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Checks, when the server starts, that the storage is ready for use: that a table exists, for example.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] stops the start of the server. A storage that cannot be reached is none: the calls that need it fail. Default:
    /// none.
    async fn check_storage(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Creates the first record of a session, for the caller who [opens](Write::opener) it. An existing record stays as it is and is
    /// returned as a conflict.
    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError>;

    /// Returns a record, or `None` where there is none.
    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError>;

    /// Replaces the record if it has the version `expected`. With another version, it stays as it is and is returned as a conflict. The
    /// [end](Write::ends_in) of the session stays the same in either case.
    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError>;

    /// Keeps a record for `ttl` from now, but no longer than until the session [ends](Write::ends_in). Returns false if there is none.
    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError>;

    /// Deletes a record; with a version, only if it has that one. Returns false if nothing was deleted.
    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError>;
}

/// A write of a session.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Write<'a> {
    /// A new random number for each write, between 1 and 2^63 - 1. A record with this version is the result of this write.
    pub version: u64,
    /// Text that means nothing to the backend.
    pub data: &'a str,
    /// How long to keep the record, from now, but no longer than until the session ends.
    pub ttl: Duration,
    /// When the session ends at the latest, from now, whatever is written later. It counts for the first record only.
    /// [`Duration::MAX`], or anything from a century on: never.
    pub ends_in: Duration,
    /// The caller who opens the session, where this is its first record. Where room is bounded, each opener has a share of it.
    pub opener: Option<Opener<'a>>,
}

/// The caller who opens a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opener<'a> {
    /// The caller, hashed: 64 hexadecimal digits.
    pub caller: &'a str,
    /// The connection of a caller who is not authenticated, hashed. All of these are one caller.
    pub connection: Option<&'a str>,
}

/// The record of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The version of the last write.
    pub version: u64,
    /// The text of the last write.
    pub data: String,
    /// How long the record is kept, from now.
    pub expires_in: Duration,
    /// When the session [ends](Write::ends_in) at the latest, from now: no sooner than the record expires.
    pub ends_in: Duration,
}

impl Record {
    /// Creates a record with the version and the text of its last write, which expires in `expires_in`, and whose session ends in
    /// `ends_in`, both from now.
    #[must_use]
    pub fn new(version: u64, data: impl Into<String>, expires_in: Duration, ends_in: Duration) -> Self {
        Self { version, data: data.into(), expires_in, ends_in }
    }
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The write is kept.
    Yes,
    /// The write is not kept: another writer was first. Carries the current record, or `None` where there is none.
    Conflict(Option<Record>),
    /// The write is not kept: there is no room for it in the opener's share.
    Full,
}

/// The failure of a step of a [`Backend`]. Its text is logged, and never shown to callers of tools.
#[derive(Debug, Clone)]
pub struct BackendError {
    error: Arc<dyn Error + Send + Sync>,
    may_be_taken: bool,
    /// The name of the backend.
    backend: &'static str,
}

impl BackendError {
    /// Creates the error of a step that may have taken effect.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: Arc::from(error.into()), may_be_taken: true, backend: "custom" }
    }

    /// Creates the error of a step that has certainly not taken effect: it was not sent, or the backend refused it.
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

    /// Says that the step, and the one before it, have changed nothing.
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

    /// Creates an error of the transaction of the call, which concerns no other call.
    #[cfg(all(feature = "transactional", any(feature = "postgres", feature = "sqlite")))]
    pub(super) fn in_transaction(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        // If it took effect, it is undone with the transaction.
        Self::not_taken(InTransaction(error.into()))
    }

    /// Whether the backend has failed, and not only the call.
    pub(super) fn concerns_all(&self) -> bool {
        !self.error.is::<InTransaction>() && !self.waits_for_itself()
    }

    /// Whether the table of the sessions does not exist.
    pub(super) fn is_missing_table(&self) -> bool {
        self.error.is::<ConfigError>()
    }

    /// Whether the step was not begun, because it would have waited for its own transaction.
    pub(super) fn waits_for_itself(&self) -> bool {
        #[cfg(all(feature = "transactional", any(feature = "postgres", feature = "sqlite")))]
        return self.error.is::<crate::connections::WaitsForItself>();
        #[cfg(not(all(feature = "transactional", any(feature = "postgres", feature = "sqlite"))))]
        false
    }
}

/// An error of the transaction of a call.
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

#[async_trait]
impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }

    async fn check_storage(&self) -> Result<(), ConfigError> {
        (**self).check_storage().await
    }

    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
        (**self).create(id, write).await
    }

    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        (**self).load(id).await
    }

    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError> {
        (**self).compare_and_swap(id, expected, write).await
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        (**self).touch(id, ttl).await
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError> {
        (**self).delete(id, expected).await
    }
}
