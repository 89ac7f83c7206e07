use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ConfigError;
use crate::idempotency_keys::{AmbiguousCalls, AmbiguousClaims, ClaimsError, Page, Resolved};

/// Keeps claims and answers.
///
/// Each step is atomic: of two replicas that take it at the same time, one comes first. A backend never drops a claim without an answer
/// for want of room, and drops it for its age only as its [claim](Claim::kept_for) allows. Otherwise only [`release`](Self::release) and
/// [`resolve`](Self::resolve) end it.
///
/// Replicas have clocks of their own, any of which may be wrong. So every time here is a duration from the moment at which the backend
/// takes the step, and the backend measures it by the one clock that all replicas share: that of the database, never that of the
/// process. Ages that it returns are measured by the same clock.
///
/// Implement it with `async-trait`'s `#[async_trait]`. See [the example](super#example-a-backend-of-your-own).
/// [`idempotency_backend_contract`](crate::testing::idempotency_backend_contract) checks an implementation. A later version may add
/// methods that have a default, like [`name`](Self::name), [`check`](Self::check) and [`ambiguous`](Self::ambiguous), and no others.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep idempotency records",
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

    /// Claims a call that is new, or whose answer has expired. Of any other call it returns the state.
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError>;

    /// Renews the lease of a claim: it begins now. Returns false if the claim is no longer the owner's, was abandoned or has its
    /// answer.
    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError>;

    /// Records the answer and keeps it for `ttl`, also if the lease has ended or the claim was abandoned. Returns false
    /// if the claim is no longer the owner's.
    ///
    /// Returns true if the same answer is recorded again: the result of the first time may have been lost on the way back.
    ///
    /// Fails with [`BackendError::Full`] if there is no room for an answer of this size. The claim then stays as it was, and the layer
    /// completes it with a record of less than 2 KiB. The claim itself must have reserved room for that.
    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError>;

    /// Deletes a claim whose call did nothing. Returns false if it is no longer the owner's, or has its answer.
    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError>;

    /// Ends the lease of a claim for whose call it is not known whether it took effect. Returns false if it is no longer the owner's, or
    /// has its answer.
    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError>;

    /// Ends an ambiguous claim, whoever owns it: with a record as answered, without one as never made. Its owner loses it.
    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError>;

    /// Lists ambiguous claims, a page at a time. Every claim that is ambiguous the whole time is on one of the pages.
    ///
    /// Default: an error, for a backend that cannot list its claims.
    async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        let _ = page;
        Err(BackendError::unavailable("this backend cannot list its claims"))
    }
}

/// A call to claim.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Claim<'a> {
    /// The hash of server, version, caller, tool and key: 96 hexadecimal digits, of which the first 16 are those of the server.
    pub id: &'a str,
    /// The hash of the arguments.
    pub fingerprint: &'a str,
    /// The tool, for people who look into the backend.
    pub tool: &'a str,
    /// The key, for people who look into the backend.
    pub key: &'a str,
    /// The hash of the caller: 64 hexadecimal digits. Where room is bounded, each caller has a share of it.
    pub caller: &'a str,
    /// The hash of the connection of an anonymous caller. All anonymous callers are one caller.
    pub connection: Option<&'a str>,
    /// A new random word for each claim. It distinguishes the owner of the claim from all others.
    pub token: &'a str,
    /// How long the claim counts as running, from now, by the backend's clock.
    pub lease: Duration,
    /// How long to keep the claim without an answer after the end of its lease. Then the claim no longer exists, and the call is new. `None`: for
    /// ever.
    pub kept_for: Option<Duration>,
    /// Takes over an ambiguous claim of the same arguments, with a new token, instead of reporting it.
    pub takes_over: bool,
}

/// A claim and its owner.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Owner<'a> {
    /// The call's id.
    pub id: &'a str,
    /// The owner's token.
    pub token: &'a str,
}

/// The answer of a backend to a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claimed {
    /// The caller has the claim. Also if it had the claim before: the token is the same.
    New,
    /// The key belongs to a call with another fingerprint.
    Other,
    /// Another call has claimed it, and its lease has not ended.
    Running,
    /// The call has this answer.
    Done(String),
    /// Another call had claimed it; the lease has ended, and there is no answer.
    Ambiguous {
        /// How long it has been ambiguous: since the end of the lease, or since the claim was abandoned.
        age: Duration,
    },
}

/// Why a step of a [`Backend`] failed. Its text is for the log; callers of tools never see it.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackendError {
    /// There is no room in the caller's share, and nothing may be dropped. Nothing was changed.
    Full,
    /// The backend could not be reached, was too slow, or gave an answer that cannot be read. The step may have been taken.
    Unavailable(Box<dyn Error + Send + Sync>),
}

impl BackendError {
    /// Creates a [`BackendError::Unavailable`] from its cause.
    #[must_use]
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the caller's share of the backend is full"),
            Self::Unavailable(error) => write!(f, "the backend is unavailable: {error}"),
        }
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Unavailable(error) => Some(error.as_ref()),
        }
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

    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        (**self).claim(claim).await
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        (**self).renew(owner, lease).await
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        (**self).complete(owner, record, ttl).await
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        (**self).release(owner).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        (**self).abandon(owner).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        (**self).resolve(id, record, ttl).await
    }

    async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        (**self).ambiguous(page).await
    }
}

/// The claims in a backend, as a [`Handle`](crate::idempotency_keys::Handle) sees them.
pub(super) struct BackendClaims(pub(super) Arc<dyn Backend>);

#[async_trait]
impl AmbiguousClaims for BackendClaims {
    async fn list(&self, page: Page<'_>) -> Result<AmbiguousCalls, ClaimsError> {
        Ok(self.0.ambiguous(page).await?)
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, ClaimsError> {
        Ok(self.0.resolve(id, record, ttl).await?)
    }
}
