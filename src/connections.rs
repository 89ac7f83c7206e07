//! The connections of a pool that several layers use.
//!
//! Calls that each hold a connection and wait for another one of the same pool deadlock once no connection is free. So code that needs
//! connections inside of transactions registers here, and transactions leave it one. Then the inner work always ends, and with it the
//! transaction around it.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::iter::from_fn;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use sqlx::{Connection, Error, Pool};
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::later;
use crate::database::SupportedDatabase;
#[cfg(feature = "transactional")]
use crate::telemetry::Outage;

mod places;
mod pooled;
mod spare;
mod waits;

use places::Places;
pub(crate) use places::{Apart, Place, What};
pub(crate) use pooled::{Pooled, RETURN_TIMEOUT};
use spare::KeptConnection;
pub(crate) use spare::Spare;
pub(crate) use waits::WaitsForItself;

/// The longest time that an idle connection may take to answer.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_secs(1);

/// The state of a pool's connections in this process. All clones of the pool share it.
pub(crate) struct Connections<DB: SupportedDatabase> {
    pool: Pool<DB>,
    places: Arc<Places>,
    kept: Arc<KeptConnection<DB>>,
    /// The outage during which no transaction can begin.
    #[cfg(feature = "transactional")]
    pub(crate) outage: Outage,
}

/// Finds the state of a pool by its address, which is unique as long as the state holds the pool.
static ALL: LazyLock<Mutex<HashMap<usize, Weak<dyn Any + Send + Sync>>>> = LazyLock::new(Mutex::default);

fn address<DB: SupportedDatabase>(pool: &Pool<DB>) -> usize {
    std::ptr::from_ref(pool.options()).addr()
}

impl<DB: SupportedDatabase> Connections<DB> {
    pub(crate) fn of(pool: &Pool<DB>) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&address(pool)).and_then(Weak::upgrade);
        if let Some(known) = known.and_then(|known| known.downcast().ok()) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Self {
            pool: pool.clone(),
            places: Places::new(pool.options().get_max_connections()),
            kept: KeptConnection::new(pool),
            #[cfg(feature = "transactional")]
            outage: Outage::default(),
        });
        let known: Arc<dyn Any + Send + Sync> = Arc::<Self>::clone(&new);
        all.insert(address(pool), Arc::downgrade(&known));
        new
    }

    pub(crate) fn is_of(&self, pool: &Pool<DB>) -> bool {
        address(&self.pool) == address(pool)
    }

    /// Says whether a call that holds `held` connections can never get another one.
    pub(crate) fn are_all(&self, held: usize) -> bool {
        held >= self.pool.options().get_max_connections() as usize
    }

    /// Makes transactions leave a connection for `what`, until the returned value is dropped.
    pub(crate) fn set_apart(&self, what: What) -> Apart {
        self.places.set_apart(what)
    }

    /// Returns the time until which the pool lets a new caller wait.
    pub(crate) fn deadline(&self) -> Instant {
        later(Instant::now(), self.pool.options().get_acquire_timeout())
    }

    /// Returns how long an idle connection may take to answer: a part of the acquire timeout, so that there is time to replace it.
    pub(crate) fn answer_timeout(&self) -> Duration {
        (self.pool.options().get_acquire_timeout() / 3).min(LONGEST_ANSWER)
    }

    /// Waits for the right to hold a connection for as long as a transaction takes.
    pub(crate) async fn place(&self, deadline: Instant) -> Result<Place, Error> {
        timeout_at(deadline, self.places.take()).await.map_err(|_| Error::PoolTimedOut)
    }

    /// Borrows a connection from the pool, within the acquire timeout.
    pub(crate) async fn acquire(&self) -> Result<Pooled<DB>, Error> {
        self.acquire_until(self.deadline()).await
    }

    /// Borrows a connection from the pool. Idle connections that do not answer are replaced within the time.
    pub(crate) async fn acquire_until(&self, deadline: Instant) -> Result<Pooled<DB>, Error> {
        let acquired = async {
            let mut first = pin!(self.pool.acquire());
            if !DB::IS_REMOTE {
                return first.await;
            }
            if let Ok(acquired) = timeout(self.answer_timeout(), &mut first).await {
                return acquired;
            }
            // The pool has no free connection, or tests one that does not answer, and would then give up.
            self.test_idle();
            let second = Box::pin(self.pool.acquire());
            match select(first, second).await {
                Either::Left((acquired, _)) | Either::Right((acquired, _)) => acquired,
            }
        };
        timeout_at(deadline, acquired).await.map_err(|_| Error::PoolTimedOut)?.map(Pooled::new)
    }

    /// Tests all idle connections, because one of them does not answer. Connections that do not answer are closed.
    pub(crate) fn test_idle(&self) {
        let idle: Vec<_> = from_fn(|| self.pool.try_acquire()).map(Pooled::new).collect();
        idle.into_iter().for_each(|idle| idle.give_back(self.answer_timeout()));
    }

    /// Returns the connection if it answers, and closes it otherwise. Sets `is_silent` if it did not answer in time.
    async fn asked(&self, mut connection: Pooled<DB>, is_silent: &mut bool) -> Option<Pooled<DB>> {
        match timeout(self.answer_timeout(), connection.ping()).await {
            Ok(Ok(())) => return Some(connection),
            Ok(Err(_)) => {}
            Err(_) => {
                *is_silent = true;
                self.test_idle();
            }
        }
        connection.close();
        None
    }

    /// Returns an idle connection that answers, if there is one.
    pub(crate) async fn idle(&self) -> Option<Pooled<DB>> {
        self.answering(&mut false).await
    }

    /// Sets `is_silent` if there is an idle connection that did not answer in time.
    async fn answering(&self, is_silent: &mut bool) -> Option<Pooled<DB>> {
        let idle = self.pool.try_acquire()?;
        self.asked(Pooled::new(idle), is_silent).await
    }

    /// Returns a connection for one short statement, for which a connection is [set apart](Self::set_apart): an idle one, or the
    /// kept one, for which short statements queue. It does not wait for calls that hold connections for long.
    pub(crate) async fn spare(self: &Arc<Self>) -> Result<Spare<'_, DB>, Error> {
        let mut is_silent = false;
        if let Some(connection) = self.answering(&mut is_silent).await {
            return Ok(Spare { connection, home: None });
        }
        if !self.places.has_room_to_keep() {
            return Ok(Spare { connection: self.acquire().await?, home: None });
        }
        let mut kept = self.kept.connection.lock().await;
        match kept.connection.take() {
            // After one silent connection, there is no time to test another.
            Some(connection) if is_silent => connection.give_back(self.answer_timeout()),
            Some(connection) => {
                if let Some(connection) = self.asked(connection, &mut is_silent).await {
                    return Ok(Spare { connection, home: Some((&self.kept, kept)) });
                }
            }
            None => {}
        }
        let connection = self.acquire().await?;
        Ok(Spare { connection, home: Some((&self.kept, kept)) })
    }

    /// Keeps a connection for at least `time` from now, if none is kept: then statements that need a [spare](Self::spare) connection do
    /// not wait for calls.
    pub(crate) fn keep(self: &Arc<Self>, connection: Pooled<DB>, time: Duration) {
        self.want_for(time);
        // If the lock is taken, its holder is about to return the connection.
        if let Ok(kept) = self.kept.connection.try_lock()
            && kept.connection.is_none()
            && self.places.has_room_to_keep()
        {
            self.kept.put(kept, connection);
        }
    }

    /// Ends the use of a connection after a finished statement, and keeps one for the next statement within `time`.
    pub(crate) fn keep_for_next(self: &Arc<Self>, spare: Spare<'_, DB>, time: Duration) {
        self.want_for(time);
        match spare {
            Spare { connection, home: None } => self.keep(connection, time),
            kept => kept.done(),
        }
    }

    /// Keeps the kept connection for `time` from now.
    pub(crate) fn want_for(&self, time: Duration) {
        self.kept.want_for(time);
    }

    /// Returns how long the kept connection is still needed.
    #[cfg(test)]
    pub(crate) fn wanted_for(&self) -> Duration {
        self.kept.wanted_for()
    }
}

/// The longest time to create a table.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds a statement that creates a table.
pub(crate) async fn in_time<T>(statement: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(SCHEMA_TIMEOUT, statement).await.unwrap_or_else(|_| Err(no_answer()))
}

/// The error of a database that has not answered in time.
pub(crate) fn no_answer() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "sqlite", feature = "redis"))]
mod tests;
