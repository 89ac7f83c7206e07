//! Where answers are remembered: one table, the same statements on every database.

use std::future::Future;
use std::time::Duration;

use crate::idempotency::CallKey;
use crate::sweeper::{Expired, Sweepable};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod statements;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) use statements::impl_records;

/// The table of idempotency records, for those who run their own migrations. `ensure_schema` runs it too.
///
/// It stands alone: neither sqlx's `_sqlx_migrations` nor any other table is touched.
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

/// A claim without a result never expires.
pub(crate) const EXPIRED: Expired = Expired {
    from: "from mcp_patterns_idempotency",
    condition: "expires_at <= $1 and result is not null",
    rows: "idempotency records",
};

/// What the table knows of a call.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Record {
    pub(crate) fingerprint: String,
    pub(crate) lease_until: Option<i64>,
    pub(crate) result: Option<String>,
}

/// The statements on the table.
#[doc(hidden)]
pub trait Records: Sweepable {
    /// Claims a call: true if it is new, or its record has expired. Waits for another transaction that has claimed it.
    fn claim(
        connection: &mut Self::Connection,
        call: &CallKey,
        owner: Option<Owner<'_>>,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Finds what is known of a call.
    fn find(
        connection: &mut Self::Connection,
        id: &str,
    ) -> impl Future<Output = Result<Option<Record>, sqlx::Error>> + Send;

    /// Records the answer to a call that was claimed: false if the claim is not the owner's any more.
    fn complete(
        connection: &mut Self::Connection,
        id: &str,
        token: Option<&str>,
        result: &str,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Prolongs a lease: false if the claim is not the owner's any more, was abandoned or has its answer.
    fn renew(
        connection: &mut Self::Connection,
        id: &str,
        owner: Owner<'_>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Claims a call whose lease is over and which has no answer.
    fn take_over(
        connection: &mut Self::Connection,
        call: &CallKey,
        owner: Owner<'_>,
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

    /// Ends a claim whose lease is over, whoever owns it: with this answer, or as never made.
    fn resolve(
        connection: &mut Self::Connection,
        id: &str,
        result: Option<&str>,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Makes the table where there is none.
    fn ensure_schema(connection: &mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// Who has claimed a call, and until when they are surely at it.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Owner<'a> {
    pub(crate) token: &'a str,
    pub(crate) lease_until: i64,
}
