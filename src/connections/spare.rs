//! A connection for short statements that must not wait for calls.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::task::JoinHandle;

use super::{Connections, Pooled};
use crate::database::SupportedDatabase;

/// How long the kept connection waits for the next statement before it goes back to the pool.
const LONGEST_IDLE: Duration = Duration::from_secs(5);

/// The connection that is kept for statements that must not wait for calls.
pub(super) struct Kept<DB: SupportedDatabase> {
    pub(super) connection: Option<Pooled<DB>>,
    /// The task that returns the connection to the pool.
    pub(super) watch: Option<JoinHandle<()>>,
}

/// A connection for one short statement. If it is dropped during the statement, it returns to the pool, if it still answers.
pub(crate) struct Spare<'a, DB: SupportedDatabase> {
    pub(super) connection: Pooled<DB>,
    pub(super) home: Option<Home<'a, DB>>,
}

/// The owner of the connection, and the place that it returns to.
pub(super) type Home<'a, DB> = (&'a Arc<Connections<DB>>, MutexGuard<'a, Kept<DB>>);

impl<DB: SupportedDatabase> Spare<'_, DB> {
    /// Ends the use after a finished statement: the kept connection is kept again.
    pub(crate) fn done(self) {
        if let Some((connections, kept)) = self.home {
            connections.want_for(LONGEST_IDLE);
            connections.put(kept, self.connection);
        }
    }
}

impl<DB: SupportedDatabase> Deref for Spare<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<DB: SupportedDatabase> DerefMut for Spare<'_, DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}
