use std::error::Error;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use crate::idempotency_keys::{AmbiguousCalls, Ledger, Page, Resolved};

/// What a step of a [`Store`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where claims and answers are kept.
///
/// Each step is atomic: of two replicas that take it at the same time, one comes first. A claim without an answer is never dropped for
/// room, and for age only as its [claim](Claim::kept_for) allows; otherwise [`release`](Self::release) and
/// [`resolve`](Self::resolve) end it.
///
/// Replicas have clocks of their own, any of which may be wrong. So every time here is a duration. It begins when the store takes the step,
/// and the store measures it by the one clock that all replicas share: that of the database, never that of the process. Ages that it
/// returns are measured by the same clock.
///
/// [`idempotency_store_contract`](crate::testing::idempotency_store_contract) checks an implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep idempotency records",
    label = "not a `Store`",
    note = "the stores of this crate are `MemoryStore`, `RedisStore` and `SqlStore`"
)]
pub trait Store: Send + Sync + 'static {
    /// Names the store for the log. Default: `custom`.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// Claims a call that is new, or whose answer has expired. Of anything else it says what it is.
    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed>;

    /// Prolongs the lease of a claim, which begins now. False if the claim is not the owner's any more, was abandoned or has its
    /// answer.
    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool>;

    /// Records the answer, to be kept for `ttl`; also if the lease is over or the claim was abandoned. False if the claim is not
    /// the owner's any more.
    ///
    /// Recording the same answer again is true again: the first time may have been lost on the way back.
    ///
    /// [`StoreError::Full`] where there is no room for an answer of this size. The claim is as it was, and is then completed with a
    /// record of less than 2 KiB, for which the claim itself must have made room.
    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool>;

    /// Forgets a claim whose call did nothing. False if it is not the owner's any more, or has its answer.
    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool>;

    /// Ends the lease of a claim of whose call it is not known whether it took effect. False if it is not the owner's any more, or has its answer.
    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool>;

    /// Ends an ambiguous claim, whoever owns it: with a record as answered, without one as never made. Its owner loses it.
    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved>;

    /// Lists ambiguous claims, a page at a time. Following the pages, each claim that is ambiguous all the time is listed.
    ///
    /// Default: an error, for a store that keeps its claims where they cannot be listed.
    fn ambiguous<'a>(&'a self, page: Page<'a>) -> StoreFuture<'a, AmbiguousCalls> {
        let _ = page;
        Box::pin(ready(Err(StoreError::unavailable("this store does not list its claims"))))
    }
}

/// A call that is to be claimed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Claim<'a> {
    /// Server, version, caller, tool and key, hashed: 96 hexadecimal digits, of which the first 16 are those of the server.
    pub id: &'a str,
    /// The arguments, hashed.
    pub fingerprint: &'a str,
    /// The tool, for people who look into the store.
    pub tool: &'a str,
    /// The key, for people who look into the store.
    pub key: &'a str,
    /// Who calls, hashed: 64 hexadecimal digits. Where room is bounded, each caller has a share of it.
    pub caller: &'a str,
    /// The connection of a caller whom nobody knows, hashed. All of these are one caller.
    pub connection: Option<&'a str>,
    /// A new random word for each claim, which tells its owner from all others.
    pub token: &'a str,
    /// How long the claim counts as running, from now, by the store's clock.
    pub lease: Duration,
    /// How long the claim is kept without an answer after its lease is over: then it is none, and the call is new. `None`: for ever.
    pub kept_for: Option<Duration>,
    /// Takes an ambiguous claim of the same arguments over, with a new token, instead of reporting it.
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

/// What a store says to a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claimed {
    /// The claim is the caller's. Also where it was already: the token is the same.
    New,
    /// The key belongs to a call with another fingerprint.
    Other,
    /// Somebody has claimed the call, and the lease is not over.
    Running,
    /// The call has this answer.
    Done(String),
    /// Somebody had claimed the call; the lease is over, and there is no answer.
    Ambiguous {
        /// For how long: since the lease was over, or the claim abandoned.
        age: Duration,
    },
}

/// Why a step of a [`Store`] failed. Callers of tools never see its text; the log does.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room in the caller's share, and nothing may be dropped. Nothing was changed.
    Full,
    /// The store could not be reached, was too slow, or answered what nobody understands. The step may have been taken.
    Unavailable(Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Wraps what went wrong.
    #[must_use]
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the caller's share of the store is full"),
            Self::Unavailable(error) => write!(f, "the store is unavailable: {error}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Unavailable(error) => Some(error.as_ref()),
        }
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        (**self).claim(claim)
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        (**self).renew(owner, lease)
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        (**self).complete(owner, record, ttl)
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        (**self).release(owner)
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        (**self).abandon(owner)
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        (**self).resolve(id, record, ttl)
    }

    fn ambiguous<'a>(&'a self, page: Page<'a>) -> StoreFuture<'a, AmbiguousCalls> {
        (**self).ambiguous(page)
    }
}

/// A store as a [`Handle`](crate::idempotency_keys::Handle) sees it.
pub(super) struct StoreLedger(pub(super) Arc<dyn Store>);

impl Ledger for StoreLedger {
    fn list<'a>(&'a self, page: Page<'a>) -> BoxFuture<'a, Result<AmbiguousCalls, Box<dyn Error + Send + Sync>>> {
        self.0.ambiguous(page).err_into().boxed()
    }

    fn resolve<'a>(
        &'a self,
        id: &'a str,
        record: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Resolved, Box<dyn Error + Send + Sync>>> {
        self.0.resolve(id, record, ttl).err_into().boxed()
    }
}
