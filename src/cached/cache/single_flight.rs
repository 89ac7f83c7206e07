//! Single-flight: concurrent callers for the same key wait for one load.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::watch;
use tracing::Instrument;

use crate::cached::first_level::generations::Watch;
use crate::shared_work::{Flag, Work};

/// The loads under way, by key. `O` is the outcome of a load.
pub(in crate::cached) struct Flights<K, O>(Arc<Mutex<HashMap<K, Flight<O>>>>);

struct Flight<O> {
    /// The stamp of the load: a caller who asks after an invalidation must not join a load that began before it.
    stamp: u64,
    superseded: Flag,
    work: Arc<Work>,
    outcome: Arc<watch::Sender<Option<O>>>,
}

/// A load, as its body sees it.
pub(in crate::cached) struct Load<K> {
    pub(in crate::cached) key: K,
    pub(in crate::cached) stamp: u64,
    pub(in crate::cached) work: Arc<Work>,
    /// Becomes true when a younger load of the same key has begun. Set and read under the lock.
    superseded: Flag,
}

impl<K> Load<K> {
    /// The stamp of the value that the source has returned: smaller than that of the load if a cache further in had the value.
    pub(in crate::cached) fn stamp_of_value(&self) -> u64 {
        self.work.oldest_answer().map_or(self.stamp, |oldest| self.stamp.min(oldest))
    }
}

/// A caller who waits for a load.
pub(in crate::cached) struct Waiter<O> {
    /// The stamp of the load.
    pub(in crate::cached) stamp: u64,
    /// Whether the load began for an earlier call.
    pub(in crate::cached) has_joined: bool,
    outcome: watch::Receiver<Option<O>>,
    pub(in crate::cached) work: Arc<Work>,
}

impl<O: Clone + Send + Sync + 'static> Waiter<O> {
    /// Waits for the load, or returns `None` if it ended without a result.
    pub(in crate::cached) async fn outcome(&mut self) -> Option<O> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits in the background, so that the load continues until `end`.
    fn wait_until(mut self, end: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(async move {
            select(pin!(self.outcome()), pin!(end)).await;
        });
    }
}

impl<K, O> Default for Flights<K, O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, O> Flights<K, O>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    /// Joins the load of `key`, or starts one in a task of its own, unless `find` finds its result.
    pub(in crate::cached) fn join<T>(
        &self,
        key: K,
        watch: &Watch<'_>,
        find: impl FnOnce(&K) -> Option<T>,
        load: impl FnOnce(Load<K>) -> BoxFuture<'static, O>,
    ) -> Either<T, Waiter<O>> {
        let flights = self.lock();
        if let Some(flight) = flights.get(&key).filter(|flight| watch.is_current(flight.stamp)) {
            return Either::Right(Waiter {
                stamp: flight.stamp,
                has_joined: true,
                outcome: flight.outcome.subscribe(),
                work: Arc::clone(&flight.work),
            });
        }
        if let Some(found) = find(&key) {
            return Either::Left(found);
        }
        Either::Right(self.start(flights, key, watch.stamp(), Arc::default(), load))
    }

    /// Starts a load in a task of its own. The result of a load under way is not kept.
    pub(in crate::cached) fn supersede(
        &self,
        key: K,
        watch: &Watch<'_>,
        load: impl FnOnce(Load<K>) -> BoxFuture<'static, O>,
    ) -> Waiter<O> {
        let flights = self.lock();
        self.start(flights, key, watch.stamp(), Arc::default(), load)
    }

    /// Starts a load that continues without a waiter until `end`, unless a load is under way.
    pub(in crate::cached) fn start_alone(
        &self,
        key: K,
        watch: &Watch<'_>,
        load: impl FnOnce(Load<K>) -> BoxFuture<'static, O>,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let flights = self.lock();
        if flights.get(&key).is_some_and(|flight| watch.is_current(flight.stamp)) {
            return;
        }
        let work = Arc::<Work>::default();
        work.leave();
        self.start(flights, key, watch.stamp(), work, load).wait_until(end);
    }

    /// Starts `next` after a load that ends, without a waiter, until `end`; unless a younger load has begun, or one of the keys was
    /// invalidated. No other load can begin in between.
    pub(in crate::cached) fn follow(
        &self,
        last: Load<K>,
        watch: &Watch<'_>,
        next: impl FnOnce(Load<K>) -> BoxFuture<'static, O>,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let flights = self.lock();
        if last.superseded.is_set() || !watch.is_current(last.stamp) {
            return;
        }
        last.work.leave();
        self.start(flights, last.key, last.stamp, last.work, next).wait_until(end);
    }

    /// Runs `keep`, which keeps the result of `load`, unless a younger load has begun or one of the keys was invalidated since the value
    /// was loaded. The check and `keep` are one step: meanwhile no load begins, none is kept, and nothing is [inserted](Self::exclude).
    pub(in crate::cached) fn keep(&self, load: &Load<K>, watch: &Watch<'_>, keep: impl FnOnce()) {
        let _flights = self.lock();
        if !load.superseded.is_set() && watch.is_current(load.stamp_of_value()) {
            keep();
        }
    }

    /// Runs `insert` while no load begins and none is kept.
    pub(in crate::cached) fn exclude(&self, insert: impl FnOnce()) {
        let _flights = self.lock();
        insert();
    }

    fn start(
        &self,
        mut flights: MutexGuard<'_, HashMap<K, Flight<O>>>,
        key: K,
        stamp: u64,
        work: Arc<Work>,
        load: impl FnOnce(Load<K>) -> BoxFuture<'static, O>,
    ) -> Waiter<O> {
        let (outcome, waiter) = watch::channel(None);
        let outcome = Arc::new(outcome);
        let superseded = Flag::default();
        let flying = Flying { flights: Self(Arc::clone(&self.0)), key: key.clone(), outcome: Arc::clone(&outcome) };
        let flight = Flight { stamp, superseded: superseded.clone(), work: Arc::clone(&work), outcome };
        if let Some(before) = flights.insert(key.clone(), flight) {
            before.superseded.set();
        }
        // Outside of the lock: the code that begins the load is the user's, and may panic.
        drop(flights);
        let load = load(Load { key, stamp, work: Arc::clone(&work), superseded });
        tokio::spawn(flying.fly(load, Arc::clone(&work)).in_current_span());
        Waiter { stamp, has_joined: false, outcome: waiter, work }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<O>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load under way. Its drop makes room for the next one, whether it ended, panicked or was dropped.
struct Flying<K: Hash + Eq + Clone + Send + Sync + 'static, O: Clone + Send + Sync + 'static> {
    flights: Flights<K, O>,
    key: K,
    outcome: Arc<watch::Sender<Option<O>>>,
}

impl<K, O> Flying<K, O>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    async fn fly(self, load: BoxFuture<'static, O>, work: Arc<Work>) {
        match select(load, pin!(self.no_waiter_is_left())).await {
            Either::Left((outcome, _)) => {
                // First the end of the flight, then the outcome: a later caller finds the value that was kept, or starts a new load.
                self.land();
                self.outcome.send_replace(Some(outcome));
            }
            Either::Right(((), _)) => work.give_up(),
        }
    }

    /// Returns when the last waiter has left. After that, no other can join.
    async fn no_waiter_is_left(&self) {
        loop {
            self.outcome.closed().await;
            let mut flights = self.flights.lock();
            if self.outcome.receiver_count() == 0 {
                self.remove_from(&mut flights);
                return;
            }
        }
    }

    fn land(&self) {
        self.remove_from(&mut self.flights.lock());
    }

    fn remove_from(&self, flights: &mut HashMap<K, Flight<O>>) {
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(&flight.outcome, &self.outcome)) {
            flights.remove(&self.key);
        }
    }
}

impl<K, O> Drop for Flying<K, O>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.land();
    }
}
