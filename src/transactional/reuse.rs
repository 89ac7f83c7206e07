//! Connections that go from one transaction straight to the next.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::{Error, Pool};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::dialect::Dialect;
use crate::connections::{Connections, Pooled, no_answer};

/// How long a connection waits for the next transaction before it goes back to its pool.
const LONGEST_IDLE: Duration = Duration::from_millis(5);

/// How long transactions hand a connection on before it goes back to its pool, where others may wait for it.
const LONGEST_LOAN: Duration = Duration::from_millis(100);

/// Hands connections on. Who waits for one gets the next that becomes free, here or in the pool.
pub(super) struct Reuse<DB: Dialect> {
    pool: Pool<DB>,
    connections: Arc<Connections<DB>>,
    shelf: Mutex<Shelf<DB>>,
}

struct Shelf<DB: Dialect> {
    /// Those that nobody waits for, each with the time since when. The last one came last.
    idle: Vec<(Instant, Spent<DB>)>,
    waiting: VecDeque<oneshot::Sender<Result<Taken<DB>, Error>>>,
    /// How many tasks are at the pool for those who wait.
    fetching: usize,
    /// Whether a task takes back what has been idle for too long.
    is_watched: bool,
}

/// What a transaction can begin on.
pub(super) enum Taken<DB: Dialect> {
    Tested(Pooled<DB>),
    Untested(Pooled<DB>),
    Spent(Spent<DB>),
}

/// What a commit leaves behind: a connection in an empty transaction.
pub(super) struct Spent<DB: Dialect> {
    connection: Pooled<DB>,
    lent: Instant,
}

impl<DB: Dialect> Spent<DB> {
    /// Begins a new transaction in its place, in one round trip.
    ///
    /// Left half-way it is rolled back: for sqlx it was in a transaction all the time.
    pub(super) async fn begin(mut self, sql: &str, deadline: Instant) -> Result<(Pooled<DB>, Instant), Error> {
        match timeout_at(deadline, DB::execute(&mut self.connection, format!("ROLLBACK; {sql}").into())).await {
            Ok(begun) => begun.map(|()| (self.connection, self.lent)),
            Err(_) => {
                self.connection.close();
                Err(no_answer())
            }
        }
    }
}

impl<DB: Dialect> Reuse<DB> {
    pub(super) fn new(pool: Pool<DB>, connections: Arc<Connections<DB>>) -> Arc<Self> {
        let shelf = Shelf { idle: Vec::new(), waiting: VecDeque::new(), fetching: 0, is_watched: false };
        Arc::new(Self { pool, connections, shelf: Mutex::new(shelf) })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<DB>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that is free, or waits for one.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Taken<DB>, Error> {
        let (taken, fetching) = {
            let mut shelf = self.shelf();
            if let Some((_, spent)) = shelf.idle.pop() {
                return Ok(Taken::Spent(spent));
            }
            if let Some(connection) = self.pool.try_acquire() {
                return Ok(Taken::Untested(Pooled::new(connection)));
            }
            let (give, taken) = oneshot::channel();
            shelf.waiting.retain(|waiting| !waiting.is_closed());
            shelf.waiting.push_back(give);
            let fetching = shelf.fetching < shelf.waiting.len();
            (taken, fetching.then(|| Fetching::new(self, &mut shelf)))
        };
        if let Some(fetching) = fetching {
            tokio::spawn(fetching.fetch());
        }
        match timeout_at(deadline, taken).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) | Err(_) => Err(Error::PoolTimedOut),
        }
    }

    /// Hands on the connection of a transaction that is committed, unless it is time that it goes back to the pool.
    pub(super) fn give(self: &Arc<Self>, connection: Pooled<DB>, lent: Instant) {
        if self.pool.is_closed() || lent.elapsed() > LONGEST_LOAN {
            return;
        }
        let mut shelf = self.shelf();
        if let Some(Taken::Spent(spent)) = shelf.serve(Taken::Spent(Spent { connection, lent })) {
            shelf.idle.push((Instant::now(), spent));
            if !mem::replace(&mut shelf.is_watched, true) {
                tokio::spawn(Self::watch(Arc::downgrade(self)));
            }
        }
    }

    /// Takes back what is idle for too long, until there is nothing left.
    async fn watch(reuse: Weak<Self>) {
        let mut watching = Watching { reuse, is_over: false };
        loop {
            sleep(LONGEST_IDLE).await;
            let Some(reuse) = watching.reuse.upgrade() else { return };
            let mut shelf = reuse.shelf();
            let is_over = shelf.idle.partition_point(|(since, _)| since.elapsed() >= LONGEST_IDLE);
            shelf.idle.drain(..is_over);
            if shelf.idle.is_empty() {
                shelf.is_watched = false;
                watching.is_over = true;
                return;
            }
        }
    }
}

impl<DB: Dialect> Shelf<DB> {
    /// Gives it to whoever has waited longest, or back where nobody waits.
    fn serve(&mut self, mut taken: Taken<DB>) -> Option<Taken<DB>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(Ok(taken)) {
                Ok(()) => return None,
                // That one has left.
                Err(Ok(back)) => taken = back,
                Err(Err(_)) => return None,
            }
        }
        Some(taken)
    }
}

/// The task that takes back what is idle. If it panics, or its runtime shuts down, the next connection starts another one.
struct Watching<DB: Dialect> {
    reuse: Weak<Reuse<DB>>,
    is_over: bool,
}

impl<DB: Dialect> Drop for Watching<DB> {
    fn drop(&mut self) {
        if let Some(reuse) = self.reuse.upgrade().filter(|_| !self.is_over) {
            reuse.shelf().is_watched = false;
        }
    }
}

/// Somebody who is at the pool for one of those who wait.
struct Fetching<DB: Dialect> {
    reuse: Arc<Reuse<DB>>,
    is_counted: bool,
}

impl<DB: Dialect> Fetching<DB> {
    fn new(reuse: &Arc<Reuse<DB>>, shelf: &mut Shelf<DB>) -> Self {
        shelf.fetching += 1;
        Self { reuse: Arc::clone(reuse), is_counted: true }
    }

    async fn fetch(mut self) {
        let reuse = Arc::clone(&self.reuse);
        loop {
            let fetched = reuse.connections.acquire().await;
            let mut shelf = reuse.shelf();
            let is_done = fetched.is_ok();
            match fetched {
                // Where nobody waits any more, it goes back.
                Ok(connection) => drop(shelf.serve(Taken::Tested(connection))),
                // Who was here when this began knows the time. Those who came later count on this one.
                Err(Error::PoolTimedOut) => {}
                Err(error) => {
                    if let Some(waiting) = shelf.waiting.pop_front() {
                        let _ = waiting.send(Err(error));
                    }
                }
            }
            shelf.waiting.retain(|waiting| !waiting.is_closed());
            if is_done || shelf.waiting.len() < shelf.fetching {
                // Who comes next counts only on those who stay: it is told before anybody can come.
                shelf.fetching -= 1;
                self.is_counted = false;
                return;
            }
        }
    }
}

/// A hook of the pool may panic: the one who has waited longest hears that there is nothing.
impl<DB: Dialect> Drop for Fetching<DB> {
    fn drop(&mut self) {
        if self.is_counted {
            let mut shelf = self.reuse.shelf();
            shelf.fetching -= 1;
            shelf.waiting.pop_front();
        }
    }
}
