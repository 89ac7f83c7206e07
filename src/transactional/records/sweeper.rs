use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::Pool;

use super::now;
use crate::transactional::Dialect;

/// How often expired records are looked for, in milliseconds.
const EVERY: i64 = 60_000;

/// Deletes expired records now and then. Clones take turns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sweeper {
    last: Arc<AtomicI64>,
}

impl Sweeper {
    /// Goes through the table behind the scenes, a batch at a time, if nobody has for a minute.
    pub(crate) fn sweep_now_and_then<DB: Dialect>(&self, pool: &Pool<DB>) {
        let (now, last) = (now(), self.last.load(Ordering::Relaxed));
        if now - last < EVERY || self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let pool = pool.clone();
        tokio::spawn(async move {
            let swept = async {
                let mut connection = pool.acquire().await?;
                while DB::sweep(&mut connection).await? > 0 {}
                Ok::<_, sqlx::Error>(())
            };
            if let Err(error) = swept.await {
                tracing::warn!(%error, "expired idempotency records were not deleted");
            }
        });
    }
}
