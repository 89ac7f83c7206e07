//! A connection for short statements that must not wait for calls.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use sqlx::Pool;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::pooled::Pooled;
use crate::clock::later;
use crate::database::SupportedDatabase;

/// How long the kept connection waits for the next statement before it goes back to the pool.
const LONGEST_IDLE: Duration = Duration::from_secs(5);

/// The connection that is kept for statements that must not wait for calls.
pub(super) struct KeptConnection<DB: SupportedDatabase> {
    pool: Pool<DB>,
    pub(super) connection: tokio::sync::Mutex<Kept<DB>>,
    /// Until when it is needed.
    until: Mutex<Instant>,
}

pub(super) struct Kept<DB: SupportedDatabase> {
    pub(super) connection: Option<Pooled<DB>>,
    /// The task that returns the connection to the pool.
    watch: Option<JoinHandle<()>>,
}

impl<DB: SupportedDatabase> KeptConnection<DB> {
    pub(super) fn new(pool: &Pool<DB>) -> Arc<Self> {
        Arc::new(Self {
            pool: pool.clone(),
            connection: tokio::sync::Mutex::new(Kept { connection: None, watch: None }),
            until: Mutex::new(Instant::now()),
        })
    }

    /// Keeps the connection for `time` from now.
    pub(super) fn want_for(&self, time: Duration) {
        let mut until = self.until();
        *until = (*until).max(later(Instant::now(), time));
    }

    #[cfg(test)]
    pub(super) fn wanted_for(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(self: &Arc<Self>, mut kept: tokio::sync::MutexGuard<'_, Kept<DB>>, connection: Pooled<DB>) {
        if self.pool.is_closed() {
            return;
        }
        kept.connection = Some(connection);
        if kept.watch.as_ref().is_none_or(JoinHandle::is_finished) {
            kept.watch = Some(tokio::spawn(Self::watch(Arc::downgrade(self), self.pool.clone())));
        }
    }

    /// Returns the connection to the pool once it is not needed any more, or the pool closes, which waits for it.
    async fn watch(this: Weak<Self>, pool: Pool<DB>) {
        let mut closes = Box::pin(pool.close_event());
        loop {
            let Some(until) = this.upgrade().map(|this| *this.until()) else { return };
            let is_closed = matches!(select(&mut closes, Box::pin(sleep_until(until))).await, Either::Left(_));
            let Some(this) = this.upgrade() else { return };
            let mut kept = this.connection.lock().await;
            if is_closed || *this.until() <= Instant::now() {
                kept.connection = None;
                kept.watch = None;
                return;
            }
        }
    }
}

/// A connection for one short statement. If it is dropped during the statement, it returns to the pool, if it still answers.
pub(crate) struct Spare<'a, DB: SupportedDatabase> {
    pub(super) connection: Pooled<DB>,
    pub(super) home: Option<Home<'a, DB>>,
}

/// Where the connection is kept, and the right to put it there.
pub(super) type Home<'a, DB> = (&'a Arc<KeptConnection<DB>>, tokio::sync::MutexGuard<'a, Kept<DB>>);

impl<DB: SupportedDatabase> Spare<'_, DB> {
    /// Ends the use after a finished statement: the kept connection is kept again.
    pub(crate) fn done(self) {
        if let Some((kept_connection, kept)) = self.home {
            kept_connection.want_for(LONGEST_IDLE);
            kept_connection.put(kept, self.connection);
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
