use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Pool;

use super::backend::{Backend, BackendError, Claim, Claimed, Owner};
use super::renewals::Renewals;
use crate::connections::{Apart, Connections, Spare, WaitsForItself, What};
use crate::idempotency_keys::{AmbiguousCalls, CallKey, Origin, Page, Resolved};
use crate::sweeper::Sweeper;
use crate::transactional::records::{self, EXPIRED, kept_for};
use crate::transactional::{Dialect, within};

/// Keeps claims and answers in a table of a database, for all replicas.
///
/// It is the same [table](crate::transactional::IDEMPOTENCY_SCHEMA) as that of [`TransactionalTool`](crate::TransactionalTool), and it
/// must exist: see [`ensure_schema`](Self::ensure_schema). The [clock](crate::idempotency_keys#clocks) of the database measures leases
/// and ages.
///
/// While calls with a key run, one connection of the pool is reserved for their claims: all leases are renewed, and answers recorded,
/// without waiting for tools that use the same pool, however long they take. A pool of one connection has none to reserve. On SQLite, a
/// transaction that writes keeps all others from writing, so a lease must be longer than any such transaction takes.
///
/// A database that replicates without waiting loses its last claims when it fails over, and a call whose claim is lost is made a second
/// time: let PostgreSQL wait for a standby (`synchronous_standby_names`).
#[must_use]
pub struct SqlBackend<DB: Dialect> {
    pool: Pool<DB>,
    sweeper: Sweeper,
    connections: Arc<Connections<DB>>,
    renewals: Arc<Renewals>,
    /// Makes transactions on the pool leave a connection for the claims.
    apart: Arc<Apart>,
}

impl<DB: Dialect> SqlBackend<DB> {
    /// Creates a backend on a pool. Each step is a statement or two outside any transaction of the tool's.
    pub fn new(pool: Pool<DB>) -> Self {
        let connections = Connections::of(&pool);
        let apart = Arc::new(connections.set_apart(What::Statements));
        Self { pool, sweeper: Sweeper::new(&EXPIRED), connections, renewals: Arc::default(), apart }
    }

    /// Creates the [table](crate::transactional::IDEMPOTENCY_SCHEMA), unless it exists.
    ///
    /// # Errors
    ///
    /// The error of the database, or [`sqlx::Error::Io`] if it does not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        records::ensure_schema(pool).await
    }

    /// Deletes the expired records, 500 at a time, and returns how many it has deleted. It leaves those that a call holds for the next
    /// time; on SQLite these are all records while another connection writes.
    ///
    /// # Errors
    ///
    /// The error of the database.
    pub async fn sweep(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        records::sweep(pool).await
    }

    async fn claim_or_find(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        if let Some(around) = within(&self.pool) {
            if around.bars(true) {
                return Err(BackendError::unavailable(WaitsForItself));
            }
            let mut connection = self.connections.spare().await?;
            let claimed = claim_or_find::<DB>(&mut connection, claim).await?;
            connection.done();
            return Ok(claimed);
        }
        let mut connection = self.connections.acquire().await?;
        let claimed = claim_or_find::<DB>(&mut connection, claim).await?;
        if claimed == Claimed::New {
            // The renewal of the claim must not wait for tools, which may take all other connections.
            self.connections.keep(connection, claim.lease);
        }
        Ok(claimed)
    }

    async fn spare(&self) -> Result<Spare<'_, DB>, BackendError> {
        Ok(self.connections.spare().await?)
    }
}

async fn claim_or_find<DB: Dialect>(connection: &mut DB::Connection, claim: Claim<'_>) -> Result<Claimed, sqlx::Error> {
    let call = CallKey {
        id: claim.id.to_owned(),
        fingerprint: claim.fingerprint.to_owned(),
        tool: claim.tool.to_owned(),
        key: claim.key.to_owned(),
        origin: Origin::default(),
    };
    let owner = records::Owner { token: claim.token, lease: claim.lease };
    // Once there is an answer, it sets a new expiry.
    let kept_for = kept_for(claim.kept_for);
    if DB::claim(connection, &call, Some(owner), kept_for).await? {
        return Ok(Claimed::New);
    }
    let Some(record) = DB::find(connection, claim.id).await? else {
        // It was released in between: the caller looks again.
        return Ok(Claimed::Running);
    };
    if record.fingerprint != claim.fingerprint {
        return Ok(Claimed::Other);
    }
    let age = record.ambiguous_for();
    if let Some(record) = record.result {
        return Ok(Claimed::Done(record));
    }
    match age {
        None => Ok(Claimed::Running),
        Some(age) if !claim.takes_over => Ok(Claimed::Ambiguous { age }),
        Some(_) => match DB::take_over(connection, &call, owner, kept_for).await? {
            true => Ok(Claimed::New),
            false => Ok(Claimed::Running),
        },
    }
}

impl From<sqlx::Error> for BackendError {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }
}

#[async_trait]
impl<DB: Dialect> Backend for SqlBackend<DB> {
    fn name(&self) -> &'static str {
        DB::NAME
    }

    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        let claimed = self.claim_or_find(claim).await;
        self.sweeper.sweep_now_and_then(&self.pool);
        claimed
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        Ok(self.renewals.renew(&self.connections, (owner.id, owner.token), lease).await?)
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        let mut connection = self.spare().await?;
        let done = DB::record(&mut connection, owner.id, owner.token, record, ttl).await?;
        connection.done();
        Ok(done)
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        let mut connection = self.spare().await?;
        let done = DB::release(&mut connection, owner.id, owner.token).await?;
        connection.done();
        Ok(done)
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        let mut connection = self.spare().await?;
        let done = DB::abandon(&mut connection, owner.id, owner.token).await?;
        connection.done();
        Ok(done)
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        Ok(records::resolve(&self.pool, id, record, ttl).await?)
    }

    async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        Ok(records::list(&self.pool, page).await?)
    }
}

impl<DB: Dialect> Clone for SqlBackend<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            sweeper: self.sweeper.clone(),
            connections: Arc::clone(&self.connections),
            renewals: Arc::clone(&self.renewals),
            apart: Arc::clone(&self.apart),
        }
    }
}

impl<DB: Dialect> fmt::Debug for SqlBackend<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlBackend").field("database", &DB::NAME).field("apart", &self.apart).finish_non_exhaustive()
    }
}
