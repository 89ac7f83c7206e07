//! The renewal of all running claims in one statement.

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Error;
use tokio::sync::oneshot;

use crate::connections::Connections;
use crate::transactional::Dialect;

/// How many claims one statement renews: each takes two of its parameters.
const BATCH: usize = 1000;

/// The claims to renew. The task that gets the connection renews those of all tasks that wait for it.
#[derive(Debug, Default)]
pub(super) struct Renewals(Mutex<Vec<Renewal>>);

#[derive(Debug)]
struct Renewal {
    claim: (String, String),
    lease: Duration,
    renewed: oneshot::Sender<bool>,
}

impl Renewals {
    fn waiting(&self) -> MutexGuard<'_, Vec<Renewal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews a lease. Returns false if the claim is no longer the owner's.
    pub(super) async fn renew<DB: Dialect>(
        &self,
        connections: &Arc<Connections<DB>>,
        (id, token): (&str, &str),
        lease: Duration,
    ) -> Result<bool, Error> {
        let (renewed, mut is_renewed) = oneshot::channel();
        self.waiting().push(Renewal { claim: (id.to_owned(), token.to_owned()), lease, renewed });
        let mut connection = connections.spare().await?;
        if let Ok(renewed) = is_renewed.try_recv() {
            connection.done();
            return Ok(renewed);
        }
        connections.want_for(lease);
        loop {
            let batch = self.next_batch(lease);
            if batch.is_empty() {
                connection.done();
                return is_renewed.await.map_err(|_| Error::WorkerCrashed);
            }
            let (claims, tell): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|renewal| (renewal.claim, renewal.renewed)).unzip();
            let renewed = DB::renew(&mut connection, &claims, lease).await?;
            for ((id, _), tell) in claims.iter().zip(tell) {
                let _ = tell.send(renewed.contains(id));
            }
        }
    }

    /// Takes the renewals that still wait and have the same lease.
    fn next_batch(&self, lease: Duration) -> Vec<Renewal> {
        let mut waiting = self.waiting();
        let (mut batch, others): (Vec<_>, Vec<_>) = take(&mut *waiting)
            .into_iter()
            .filter(|renewal| !renewal.renewed.is_closed())
            .partition(|renewal| renewal.lease == lease);
        let rest = batch.split_off(batch.len().min(BATCH));
        *waiting = others;
        waiting.extend(rest);
        batch
    }
}
