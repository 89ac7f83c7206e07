use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;

use super::backend::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
use super::renewals::Renewals;
use crate::connections::{Apart, Connections, Spare, WaitsForItself, What, in_time};
use crate::idempotency_keys::{AmbiguousCalls, CallKey, Origin, Page, Resolved};
use crate::sweeper::Sweeper;
use crate::transactional::records::{self, EXPIRED, kept_for};
use crate::transactional::{Dialect, within};

/// Keeps claims and answers in a table of a database, for all replicas.
///
/// It is the [table](crate::transactional::IDEMPOTENCY_SCHEMA) that [`TransactionalTool`](crate::TransactionalTool) has, and must
/// be there: see [`ensure_schema`](Self::ensure_schema). Leases and ages are measured by the [clock](crate::idempotency_keys#clocks) of the
/// database.
///
/// While calls with a key run, one connection of the pool is kept for their claims: all leases are renewed, and answers recorded,
/// without waiting for tools that use the same pool, however long they take. A pool of one connection has none to keep. On SQLite a
/// transaction that writes bars all others from writing, so a lease must be longer than any of them takes.
///
/// A database that replicates without waiting loses its last claims when it fails over, and a call whose claim is lost is made a
/// second time: let PostgreSQL wait for a standby (`synchronous_standby_names`).
#[must_use]
pub struct SqlStore<DB: Dialect> {
    pool: Pool<DB>,
    sweeper: Sweeper,
    connections: Arc<Connections<DB>>,
    renewals: Arc<Renewals>,
    /// Has transactions on the pool leave a connection to the claims.
    apart: Arc<Apart>,
}

impl<DB: Dialect> SqlStore<DB> {
    /// On connections of `pool`. Each step is a statement or two outside any transaction of the tool's.
    pub fn new(pool: Pool<DB>) -> Self {
        let connections = Connections::of(&pool);
        let apart = Arc::new(connections.set_apart(What::Statements));
        Self { pool, sweeper: Sweeper::new(&EXPIRED), connections, renewals: Arc::default(), apart }
    }

    /// Makes the table where there is none.
    ///
    /// # Errors
    ///
    /// Those of the database, and that it did not answer within a minute.
    pub async fn ensure_schema(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.connections.acquire().await?;
        in_time(DB::ensure_schema(&mut connection)).await
    }

    async fn claim_or_find(&self, claim: Claim<'_>) -> Result<Claimed, StoreError> {
        if let Some(around) = within(&self.pool) {
            if around.bars(true) {
                return Err(StoreError::unavailable(WaitsForItself));
            }
            let mut connection = self.connections.spare().await?;
            let claimed = claim_or_find::<DB>(&mut connection, claim).await?;
            connection.done();
            return Ok(claimed);
        }
        let mut connection = self.connections.acquire().await?;
        let claimed = claim_or_find::<DB>(&mut connection, claim).await?;
        if claimed == Claimed::New {
            // What renews the claim must not wait for the tools that may take all others.
            self.connections.keep(connection, claim.lease);
        }
        Ok(claimed)
    }

    async fn spare(&self) -> Result<Spare<'_, DB>, StoreError> {
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
    // Once there is an answer, its expiry is set anew.
    let kept_for = kept_for(claim.kept_for);
    if DB::claim(connection, &call, Some(owner), kept_for).await? {
        return Ok(Claimed::New);
    }
    let Some(record) = DB::find(connection, claim.id).await? else {
        // It was released in between: whoever waits asks again.
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }
}

impl<DB: Dialect> Store for SqlStore<DB> {
    fn name(&self) -> &'static str {
        DB::NAME
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        Box::pin(async move {
            let claimed = self.claim_or_find(claim).await;
            self.sweeper.sweep_now_and_then(&self.pool);
            claimed
        })
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.renewals.renew(&self.connections, (owner.id, owner.token), lease).await?) })
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.spare().await?;
            let done = DB::record(&mut connection, owner.id, owner.token, record, ttl).await?;
            connection.done();
            Ok(done)
        })
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.spare().await?;
            let done = DB::release(&mut connection, owner.id, owner.token).await?;
            connection.done();
            Ok(done)
        })
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.spare().await?;
            let done = DB::abandon(&mut connection, owner.id, owner.token).await?;
            connection.done();
            Ok(done)
        })
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        Box::pin(async move { Ok(records::resolve(&self.pool, id, record, ttl).await?) })
    }

    fn ambiguous<'a>(&'a self, page: Page<'a>) -> StoreFuture<'a, AmbiguousCalls> {
        Box::pin(async move { Ok(records::list(&self.pool, page).await?) })
    }
}

impl<DB: Dialect> Clone for SqlStore<DB> {
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

impl<DB: Dialect> fmt::Debug for SqlStore<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("database", &DB::NAME).field("apart", &self.apart).finish_non_exhaustive()
    }
}
