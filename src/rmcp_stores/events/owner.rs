//! The lease of a process that writes streams. While it has one, nobody abandons its streams.

use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use super::{EventLog, EventLogError, Log, secret};

/// A process that writes streams. Its lease ends after its drop.
#[derive(Debug, Default)]
pub(in crate::rmcp_stores) struct Owner {
    held: OnceCell<Held>,
}

#[derive(Debug)]
struct Held {
    id: String,
    renewal: AbortHandle,
}

impl Owner {
    /// Returns the id of the owner, which has a lease. The first call gets it, and a task renews it from then on.
    pub(in crate::rmcp_stores) async fn hold_lease<L: Log>(&self, log: &EventLog<L>) -> Result<&str, EventLogError> {
        let held = self.held.get_or_try_init(|| async {
            let (id, lease) = (secret()?, log.settings.lease);
            log.step(log.log.renew(&id, lease)).await?;
            // Without the owner, which ends the task.
            let (log, owner) = (EventLog { owner: None, ..log.clone() }, id.clone());
            let renewal = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(lease / 3).await;
                    // A failure is logged there. After a lease that has ended, the next renewal begins another one.
                    let _ = log.step(log.log.renew(&owner, lease)).await;
                }
            });
            Ok::<_, EventLogError>(Held { id, renewal: renewal.abort_handle() })
        });
        Ok(&held.await?.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
