use std::fmt;
use std::time::Duration;

use sqlx::Pool;

use super::store::{Claim, Claimed, Owner, Resolved, Store, StoreError, StoreFuture};
use crate::clock::{after, wall_clock};
use crate::idempotency::{CallKey, Origin};
use crate::sweeper::Sweeper;
use crate::transactional::Dialect;
use crate::transactional::records::{self, EXPIRED};

/// Keeps claims and answers in a table of a database, for all replicas.
///
/// It is the [table](crate::transactional::IDEMPOTENCY_SCHEMA) that [`TransactionalTool`](crate::TransactionalTool) has, and must
/// be there: see [`ensure_schema`](Self::ensure_schema). Leases are measured by the clocks of the replicas, which should agree to
/// within a third of a lease.
///
/// A database that replicates without waiting loses its last claims when it fails over, and a call whose claim is lost is made a
/// second time: let PostgreSQL wait for a standby (`synchronous_standby_names`).
#[must_use]
pub struct SqlStore<DB: Dialect> {
    pool: Pool<DB>,
    sweeper: Sweeper,
}

impl<DB: Dialect> SqlStore<DB> {
    /// On connections of `pool`. Each step is a statement or two outside any transaction of the tool's.
    pub fn new(pool: Pool<DB>) -> Self {
        Self { pool, sweeper: Sweeper::new(&EXPIRED) }
    }

    /// Makes the table where there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn ensure_schema(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        DB::ensure_schema(&mut connection).await
    }

    async fn claim_or_find(&self, claim: Claim<'_>) -> Result<Claimed, sqlx::Error> {
        let call = CallKey {
            id: claim.id.to_owned(),
            fingerprint: claim.fingerprint.to_owned(),
            tool: claim.tool.to_owned(),
            key: claim.key.to_owned(),
            origin: Origin::default(),
        };
        let owner = records::Owner { token: claim.token, lease_until: after(wall_clock(), claim.lease) };
        let mut connection = self.pool.acquire().await?;
        // The expiry counts once there is an answer, and is set anew then.
        if DB::claim(&mut connection, &call, Some(owner), Duration::ZERO).await? {
            return Ok(Claimed::New);
        }
        let Some(record) = DB::find(&mut connection, claim.id).await? else {
            // It was released in between: whoever waits asks again.
            return Ok(Claimed::Running);
        };
        if record.fingerprint != claim.fingerprint {
            return Ok(Claimed::Other);
        }
        if let Some(record) = record.result {
            return Ok(Claimed::Done(record));
        }
        match record.lease_until {
            Some(until) if until > wall_clock() => Ok(Claimed::Running),
            _ if !claim.takes_over => Ok(Claimed::Ambiguous),
            _ => match DB::take_over(&mut connection, &call, owner).await? {
                true => Ok(Claimed::New),
                false => Ok(Claimed::Running),
            },
        }
    }

    async fn resolve_or_find(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        if DB::resolve(&mut connection, id, record, ttl).await? {
            return Ok(Resolved::Yes);
        }
        Ok(match DB::find(&mut connection, id).await? {
            None => Resolved::Unknown,
            Some(record) if record.result.is_some() => Resolved::Answered,
            Some(_) => Resolved::Running,
        })
    }
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::unavailable(error)
}

impl<DB: Dialect> Store for SqlStore<DB> {
    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        Box::pin(async move {
            let claimed = self.claim_or_find(claim).await;
            self.sweeper.sweep_now_and_then(&self.pool);
            claimed.map_err(unavailable)
        })
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.pool.acquire().await.map_err(unavailable)?;
            let renewed = records::Owner { token: owner.token, lease_until: after(wall_clock(), lease) };
            DB::renew(&mut connection, owner.id, renewed).await.map_err(unavailable)
        })
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.pool.acquire().await.map_err(unavailable)?;
            DB::record(&mut connection, owner.id, owner.token, record, ttl).await.map_err(unavailable)
        })
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.pool.acquire().await.map_err(unavailable)?;
            DB::release(&mut connection, owner.id, owner.token).await.map_err(unavailable)
        })
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut connection = self.pool.acquire().await.map_err(unavailable)?;
            DB::abandon(&mut connection, owner.id, owner.token).await.map_err(unavailable)
        })
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        Box::pin(async move { self.resolve_or_find(id, record, ttl).await.map_err(unavailable) })
    }
}

impl<DB: Dialect> Clone for SqlStore<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), sweeper: self.sweeper.clone() }
    }
}

impl<DB: Dialect> fmt::Debug for SqlStore<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("database", &DB::NAME).finish_non_exhaustive()
    }
}
