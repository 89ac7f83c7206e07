//! The table of idempotency records, with the same statements on every database.

use std::future::Future;
use std::time::Duration;

use sqlx::Pool;

use crate::clock::CENTURY;
use crate::connections::{Connections, in_time};
use crate::database::SupportedDatabase;
use crate::idempotency_keys::{AmbiguousCalls, CallKey, Page, Resolved};
use crate::sweeper::{Expired, Sweeper};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod statements;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) use statements::impl_records;

/// The statements that create the table of idempotency records, for migrations of your own. `ensure_schema` runs them too.
///
/// They touch no other table, and not sqlx's `_sqlx_migrations`.
pub const IDEMPOTENCY_SCHEMA: &str = "\
create table if not exists mcp_patterns_idempotency (
    id text primary key,
    tool text not null,
    key text not null,
    fingerprint text not null,
    token text,
    lease_until bigint,
    result text,
    created_at bigint not null,
    expires_at bigint not null
);
create index if not exists mcp_patterns_idempotency_expires_at on mcp_patterns_idempotency (expires_at);
";

/// The expired rows. A claim without a result is deleted only if its row expires after the end of its lease.
pub(crate) const EXPIRED: Expired = Expired {
    from: "from mcp_patterns_idempotency",
    condition: "expires_at <= {now} and (result is not null or lease_until is null or lease_until < expires_at)",
    rows: "idempotency records",
};

/// How long a claim without a result is kept.
pub(crate) fn kept_for(kept_for: Option<Duration>) -> Duration {
    kept_for.unwrap_or(CENTURY)
}

/// A row of the table. Its times are the database's, in milliseconds since 1970.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Record {
    pub(crate) fingerprint: String,
    /// Below zero: abandoned since then. None: a transaction has claimed it.
    pub(crate) lease_until: Option<i64>,
    pub(crate) result: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    /// When it was found.
    pub(crate) now: i64,
}

impl Record {
    /// How long it has not been known whether the call took effect. `None`: the call runs.
    ///
    /// Others see the claim of a transaction only if its own tool has ended the transaction.
    pub(crate) fn ambiguous_for(&self) -> Option<Duration> {
        let since = match self.lease_until {
            None | Some(0) => self.created_at,
            Some(until) if until > self.now => return None,
            Some(until) => until.saturating_abs(),
        };
        Some(Duration::from_millis(u64::try_from(self.now.saturating_sub(since)).unwrap_or_default()))
    }
}

/// The statements on the table. Durations begin when the database takes the statement, and are measured by its clock.
#[doc(hidden)]
pub trait Records: SupportedDatabase {
    /// Claims a call: true if it is new, or its record has expired. Waits for another transaction that has claimed it.
    ///
    /// Without a result the claim is kept for this time, after the end of the lease if it has one.
    fn claim(
        connection: &mut Self::Connection,
        call: &CallKey,
        owner: Option<Owner<'_>>,
        kept_for: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Finds the record of a call.
    fn find(
        connection: &mut Self::Connection,
        id: &str,
    ) -> impl Future<Output = Result<Option<Record>, sqlx::Error>> + Send;

    /// Records the answer to a call that a transaction has claimed: false if the claim no longer exists.
    fn complete(
        connection: &mut Self::Connection,
        id: &str,
        result: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Extends the leases of claims, each by its id and the token of its owner. Returns the ids of the renewed ones:
    /// not of a claim that is no longer the owner's, was abandoned or has its answer.
    fn renew(
        connection: &mut Self::Connection,
        claims: &[(String, String)],
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;

    /// Claims a call whose lease has ended and which has no answer.
    fn take_over(
        connection: &mut Self::Connection,
        call: &CallKey,
        owner: Owner<'_>,
        kept_for: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Records an answer and keeps its owner, so that the same owner may record the same answer again.
    fn record(
        connection: &mut Self::Connection,
        id: &str,
        token: &str,
        result: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Deletes a claim: false if it is not the owner's any more, or has its answer.
    fn release(
        connection: &mut Self::Connection,
        id: &str,
        token: &str,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Ends a lease for good: false if the claim is not the owner's any more, or has its answer.
    fn abandon(
        connection: &mut Self::Connection,
        id: &str,
        token: &str,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Ends a claim whose lease has ended, whoever owns it: with this answer, or as never made.
    fn resolve(
        connection: &mut Self::Connection,
        id: &str,
        result: Option<&str>,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Lists the ambiguous claims, by their ids.
    fn ambiguous(
        connection: &mut Self::Connection,
        page: Page<'_>,
    ) -> impl Future<Output = Result<AmbiguousCalls, sqlx::Error>> + Send;

    /// Creates the table, unless it exists.
    fn ensure_schema(connection: &mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// The owner of a claim, and how long its call counts as running.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Owner<'a> {
    pub(crate) token: &'a str,
    pub(crate) lease: Duration,
}

/// Creates the table, unless it exists.
pub(crate) async fn ensure_schema<DB: Records>(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
    let mut connection = Connections::of(pool).acquire().await?;
    in_time(DB::ensure_schema(&mut connection)).await
}

/// Deletes the expired records, a batch at a time, and returns how many it has deleted.
pub(crate) async fn sweep<DB: Records>(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
    Sweeper::new(&EXPIRED).sweep(pool).await
}

/// Lists the ambiguous claims of a table.
pub(crate) async fn list<DB: Records>(pool: &Pool<DB>, page: Page<'_>) -> Result<AmbiguousCalls, sqlx::Error> {
    let mut connection = Connections::of(pool).acquire().await?;
    DB::ambiguous(&mut connection, page).await
}

/// Ends an ambiguous claim. If the claim is not ambiguous, returns its state.
pub(crate) async fn resolve<DB: Records>(
    pool: &Pool<DB>,
    id: &str,
    record: Option<&str>,
    ttl: Duration,
) -> Result<Resolved, sqlx::Error> {
    let mut connection = Connections::of(pool).acquire().await?;
    if DB::resolve(&mut connection, id, record, ttl).await? {
        return Ok(Resolved::Yes);
    }
    Ok(match DB::find(&mut connection, id).await? {
        None => Resolved::Unknown,
        Some(record) if record.expires_at <= record.now => Resolved::Unknown,
        Some(record) if record.result.is_some() => Resolved::Answered,
        Some(_) => Resolved::Running,
    })
}
