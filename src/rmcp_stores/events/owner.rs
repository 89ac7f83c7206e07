//! A process that writes streams. While it has a lease, nobody abandons its streams.

use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

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
    /// Returns the id of the owner. The first call gets the lease by `begin`, which returns the id and the task that renews the lease.
    pub(super) async fn hold<E, F: Future<Output = Result<(String, AbortHandle), E>>>(
        &self,
        begin: impl FnOnce() -> F,
    ) -> Result<&str, E> {
        let held = self.held.get_or_try_init(|| async {
            let (id, renewal) = begin().await?;
            Ok(Held { id, renewal })
        });
        Ok(&held.await?.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
