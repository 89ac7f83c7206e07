//! A connection whose return to its pool has a deadline.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::Database;
use sqlx::pool::PoolConnection;
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::database::SupportedDatabase;
use crate::telemetry::Warning;

/// The longest time for the return of a connection to its pool: an abandoned statement ends, an open transaction is rolled back, the
/// pool's hook runs, and the ping is answered.
pub(crate) const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is borrowed from a pool.
///
/// On the return, sqlx waits for the ping without a limit, and the pool has one connection less until then. A connection here that does
/// not answer in time is closed without waiting for the server, and the pool may open another one.
pub(crate) struct Pooled<DB: SupportedDatabase>(Option<PoolConnection<DB>>);

impl<DB: SupportedDatabase> Pooled<DB> {
    pub(crate) fn new(connection: PoolConnection<DB>) -> Self {
        Self(Some(connection))
    }

    /// Closes the connection at once, without a message to the server.
    pub(crate) fn close(mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }

    /// Returns the connection to the pool, if it is ready within this time.
    pub(crate) fn give_back(mut self, within: Duration) {
        if let Some(connection) = self.0.take() {
            give_back(connection, within);
        }
    }
}

fn give_back<DB: SupportedDatabase>(mut connection: PoolConnection<DB>, within: Duration) {
    let Ok(runtime) = Handle::try_current() else {
        // It cannot go back to its pool without a runtime, and sqlx would panic.
        mem::forget(connection);
        return;
    };
    if <DB as Database>::TransactionManager::get_transaction_depth(&connection) > 0 {
        <DB as Database>::TransactionManager::start_rollback(&mut connection);
    }
    if DB::IS_REMOTE {
        runtime.spawn(async move {
            static CLOSED: Warning = Warning::new();
            if timeout(within, connection.return_to_pool()).await.is_err()
                && let Some(unsaid) = CLOSED.due()
            {
                tracing::warn!(?within, unsaid, "a connection was closed: the database did not answer on it in time");
            }
        });
    }
}

impl<DB: SupportedDatabase> Drop for Pooled<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            give_back(connection, RETURN_TIMEOUT);
        }
    }
}

impl<DB: SupportedDatabase> Deref for Pooled<DB> {
    type Target = DB::Connection;

    #[expect(clippy::expect_used, reason = "only the methods that end it take the connection")]
    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is not closed")
    }
}

impl<DB: SupportedDatabase> DerefMut for Pooled<DB> {
    #[expect(clippy::expect_used, reason = "only the methods that end it take the connection")]
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.as_mut().expect("it is not closed")
    }
}
