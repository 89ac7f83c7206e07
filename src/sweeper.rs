//! The deletion of expired rows. It waits for no call, and no call waits for more than a small batch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Pool;
use tokio::time::{Instant, timeout};

use crate::connections::{Connections, Pooled, no_answer};
use crate::database::SupportedDatabase;

/// The time between two sweeps.
const EVERY: Duration = Duration::from_secs(60);

/// The number of rows that one statement deletes.
const BATCH: u64 = 500;

/// The longest time of such a statement: its connection is missing in the pool. A server that is only slow goes on with it.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a batch, and between two attempts to get an idle connection.
const PAUSE: Duration = Duration::from_millis(50);

/// After this number of attempts without an idle connection, a sweep is postponed.
const MAX_LOOKS: u32 = 200;

/// The rows that are swept.
#[derive(Debug)]
pub(crate) struct Expired {
    /// The `from` clause with their table.
    pub(crate) from: &'static str,
    /// True for a row that has expired by `{now}`, the time of the database.
    pub(crate) condition: &'static str,
    /// The name of the rows, for the log.
    pub(crate) rows: &'static str,
}

impl Expired {
    /// Deletes a batch, without waiting for another transaction.
    ///
    /// The condition is there twice: a row may be renewed after it was selected, and `READ COMMITTED` checks only the outer
    /// condition again. The order is that of the index, or a planner that does not know the time reads the whole table.
    pub(crate) fn statement<DB: SupportedDatabase>(&self, skip_locked: &str) -> String {
        let from = self.from;
        let condition = self.condition.replace("{now}", &format!("(select {})", DB::TIME));
        format!(
            "delete {from} where id in \
             (select id {from} where {condition} order by expires_at limit {BATCH} {skip_locked}) and {condition}"
        )
    }
}

/// Deletes expired rows periodically. Clones share one schedule.
#[derive(Debug, Clone)]
pub(crate) struct Sweeper {
    expired: &'static Expired,
    next: Arc<Mutex<Instant>>,
}

impl Sweeper {
    /// The first sweep is due at once.
    pub(crate) fn new(expired: &'static Expired) -> Self {
        Self { expired, next: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The first sweep is due in a minute.
    pub(crate) fn later(expired: &'static Expired) -> Self {
        Self { expired, next: Arc::new(Mutex::new(Instant::now() + EVERY)) }
    }

    /// Sweeps in its own task, unless a sweep began in the last minute.
    pub(crate) fn sweep_now_and_then<DB: SupportedDatabase>(&self, pool: &Pool<DB>) {
        if !self.is_due() {
            return;
        }
        let (sweeper, pool) = (self.clone(), pool.clone());
        tokio::spawn(async move {
            if let Err(error) = sweeper.sweep_on_idle(&pool).await {
                tracing::warn!(%error, rows = sweeper.expired.rows, "expired rows were not deleted");
            }
        });
    }

    /// Says whether this call begins a sweep.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = *next <= now;
        if is_due {
            *next = now + EVERY;
        }
        is_due
    }

    /// Deletes the expired rows, each batch on an idle connection: in a busy pool, calls come first.
    async fn sweep_on_idle<DB: SupportedDatabase>(&self, pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        let mut looks = 0;
        while looks < MAX_LOOKS && !pool.is_closed() {
            // Found again each time: it keeps a connection for as long as somebody has it, and a sweep needs none.
            let idle = Connections::of(pool).idle().await;
            if let Some(connection) = idle {
                if self.delete_batch(connection).await? < BATCH {
                    return Ok(());
                }
                looks = 0;
            } else {
                looks += 1;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::debug!(rows = self.expired.rows, "no connection is idle: expired rows are deleted later");
        Ok(())
    }

    /// Deletes the expired rows, and returns their number. Each batch waits for a connection like a call.
    pub(crate) async fn sweep<DB: SupportedDatabase>(&self, pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        let (mut swept, connections) = (0, Connections::of(pool));
        loop {
            let batch = self.delete_batch(connections.acquire().await?).await?;
            swept += batch;
            if batch < BATCH {
                return Ok(swept);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs in its own task, so that a cancelled caller leaves no connection with changed lock settings.
    async fn delete_batch<DB: SupportedDatabase>(&self, mut connection: Pooled<DB>) -> Result<u64, sqlx::Error> {
        let statement = self.expired.statement::<DB>(DB::SKIP_LOCKED);
        let deleted = tokio::spawn(async move {
            match timeout(BATCH_TIMEOUT, DB::delete_expired(&mut connection, statement)).await {
                Ok(deleted) => deleted,
                Err(_) => {
                    connection.close();
                    Err(no_answer())
                }
            }
        });
        deleted.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

#[cfg(test)]
mod tests;
