//! Connections that pass from one transaction directly to the next.

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

/// How long transactions hand a connection on before it goes back to its pool, for which others may wait.
const LONGEST_LOAN: Duration = Duration::from_millis(100);

/// Passes connections on. A transaction that waits for one gets the next that becomes free, here or in the pool.
pub(super) struct Reuse<DB: Dialect> {
    pool: Pool<DB>,
    connections: Arc<Connections<DB>>,
    idle_list: Mutex<IdleList<DB>>,
}

struct IdleList<DB: Dialect> {
    /// The idle connections, each with the time since when. The newest is the last.
    idle: Vec<(Instant, ChainedTransaction<DB>)>,
    waiting: VecDeque<oneshot::Sender<Result<Taken<DB>, Error>>>,
    /// How many tasks wait for the pool, on behalf of transactions.
    fetching: usize,
    /// Whether a task returns connections that are idle for too long.
    is_watched: bool,
}

/// A connection that a transaction can begin on.
pub(super) enum Taken<DB: Dialect> {
    Tested(Pooled<DB>),
    Untested(Pooled<DB>),
    Chained(ChainedTransaction<DB>),
}

/// A connection after a commit, in the empty transaction that the commit has begun.
pub(super) struct ChainedTransaction<DB: Dialect> {
    connection: Pooled<DB>,
    lent: Instant,
}

impl<DB: Dialect> ChainedTransaction<DB> {
    /// Begins a new transaction in its place, in one round trip.
    ///
    /// If it is dropped half-way, it is rolled back: for sqlx a transaction was open all the time.
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
        let idle_list = IdleList { idle: Vec::new(), waiting: VecDeque::new(), fetching: 0, is_watched: false };
        Arc::new(Self { pool, connections, idle_list: Mutex::new(idle_list) })
    }

    fn idle_list(&self) -> MutexGuard<'_, IdleList<DB>> {
        self.idle_list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that is free, or waits for one.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Taken<DB>, Error> {
        let (taken, fetching) = {
            let mut idle_list = self.idle_list();
            if let Some((_, chained)) = idle_list.idle.pop() {
                return Ok(Taken::Chained(chained));
            }
            if let Some(connection) = self.pool.try_acquire() {
                return Ok(Taken::Untested(Pooled::new(connection)));
            }
            let (give, taken) = oneshot::channel();
            idle_list.waiting.retain(|waiting| !waiting.is_closed());
            idle_list.waiting.push_back(give);
            let fetching = idle_list.fetching < idle_list.waiting.len();
            (taken, fetching.then(|| Fetching::new(self, &mut idle_list)))
        };
        if let Some(fetching) = fetching {
            tokio::spawn(fetching.fetch());
        }
        match timeout_at(deadline, taken).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) | Err(_) => Err(Error::PoolTimedOut),
        }
    }

    /// Passes on the connection of a committed transaction, unless it has to return to the pool.
    pub(super) fn give(self: &Arc<Self>, connection: Pooled<DB>, lent: Instant) {
        if self.pool.is_closed() || lent.elapsed() > LONGEST_LOAN {
            return;
        }
        let mut idle_list = self.idle_list();
        if let Some(Taken::Chained(chained)) = idle_list.serve(Taken::Chained(ChainedTransaction { connection, lent }))
        {
            idle_list.idle.push((Instant::now(), chained));
            if !mem::replace(&mut idle_list.is_watched, true) {
                tokio::spawn(Self::watch(Arc::downgrade(self)));
            }
        }
    }

    /// Returns connections that are idle for too long, until none is left.
    async fn watch(reuse: Weak<Self>) {
        let mut watching = Watching { reuse, is_over: false };
        loop {
            sleep(LONGEST_IDLE).await;
            let Some(reuse) = watching.reuse.upgrade() else { return };
            let mut idle_list = reuse.idle_list();
            let is_over = idle_list.idle.partition_point(|(since, _)| since.elapsed() >= LONGEST_IDLE);
            idle_list.idle.drain(..is_over);
            if idle_list.idle.is_empty() {
                idle_list.is_watched = false;
                watching.is_over = true;
                return;
            }
        }
    }
}

impl<DB: Dialect> IdleList<DB> {
    /// Gives it to the transaction that has waited longest. Returns it if none waits.
    fn serve(&mut self, mut taken: Taken<DB>) -> Option<Taken<DB>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(Ok(taken)) {
                Ok(()) => return None,
                // That transaction has left.
                Err(Ok(back)) => taken = back,
                Err(Err(_)) => return None,
            }
        }
        Some(taken)
    }
}

/// The task that returns idle connections. If it panics, or its runtime shuts down, the next connection starts another
/// one.
struct Watching<DB: Dialect> {
    reuse: Weak<Reuse<DB>>,
    is_over: bool,
}

impl<DB: Dialect> Drop for Watching<DB> {
    fn drop(&mut self) {
        if let Some(reuse) = self.reuse.upgrade().filter(|_| !self.is_over) {
            reuse.idle_list().is_watched = false;
        }
    }
}

/// A task that waits for the pool, on behalf of a transaction.
struct Fetching<DB: Dialect> {
    reuse: Arc<Reuse<DB>>,
    is_counted: bool,
}

impl<DB: Dialect> Fetching<DB> {
    fn new(reuse: &Arc<Reuse<DB>>, idle_list: &mut IdleList<DB>) -> Self {
        idle_list.fetching += 1;
        Self { reuse: Arc::clone(reuse), is_counted: true }
    }

    async fn fetch(mut self) {
        let reuse = Arc::clone(&self.reuse);
        loop {
            let fetched = reuse.connections.acquire().await;
            let mut idle_list = reuse.idle_list();
            let is_done = fetched.is_ok();
            match fetched {
                // If none waits any more, it returns to the pool.
                Ok(connection) => drop(idle_list.serve(Taken::Tested(connection))),
                // The transactions that waited when this began know the timeout. Those that came later count on this task.
                Err(Error::PoolTimedOut) => {}
                Err(error) => {
                    if let Some(waiting) = idle_list.waiting.pop_front() {
                        let _ = waiting.send(Err(error));
                    }
                }
            }
            idle_list.waiting.retain(|waiting| !waiting.is_closed());
            if is_done || idle_list.waiting.len() < idle_list.fetching {
                // The next transaction must count only the tasks that stay: so the count changes before it can come.
                idle_list.fetching -= 1;
                self.is_counted = false;
                return;
            }
        }
    }
}

/// A hook of the pool may panic. Then the transaction that has waited longest gets no connection.
impl<DB: Dialect> Drop for Fetching<DB> {
    fn drop(&mut self) {
        if self.is_counted {
            let mut idle_list = self.reuse.idle_list();
            idle_list.fetching -= 1;
            idle_list.waiting.pop_front();
        }
    }
}
