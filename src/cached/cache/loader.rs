//! What the clones of a cache share, and what a load does.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::LoadError;
use super::link::{Job, Link};
use super::lookup::Before;
use super::settings::Settings;
use super::single_flight::{Flights, Load};
use super::stats::Counts;
use crate::cached::first_level::entry::{Bounds, Life, Slot, Store};
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::generations::Generations;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::clock::CENTURY;
use crate::shared_work::Work;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a cache: this process' (level 1), or one behind it.
    Hit { age: Duration, level: u8 },
    /// From a cache, past its ttl.
    Stale { age: Duration, level: u8 },
    /// From where it is loaded.
    Load,
    /// From where it is loaded, for one caller alone, and not kept.
    Own,
}

/// What a load ends with.
pub(in crate::cached) type Outcome<V, E> = Result<(V, Source), E>;

/// Asks the source. On the heap: it is handed on through several futures, each of which would store it again.
pub(in crate::cached) type Loading<V, E> = BoxFuture<'static, Result<V, E>>;

/// Why a load was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Reason {
    /// Somebody waits for the value.
    Asked,
    /// A value is past its time, or soon will be. Nobody waits.
    Refresh,
    /// Somebody wants a value that is new, whatever there is.
    Forced,
}

pub(in crate::cached) struct Shared<K, V, E> {
    pub(in crate::cached) store: Store<K, V>,
    pub(in crate::cached) failures: Store<K, E>,
    pub(in crate::cached) flights: Flights<K, Outcome<V, E>>,
    pub(in crate::cached) generations: Generations,
    pub(in crate::cached) counts: Counts,
    pub(in crate::cached) link: Option<Link<K, V>>,
    alive: watch::Receiver<()>,
}

/// Held by the clones of a cache, and by nothing that runs in the background: it ends when this is dropped.
pub(in crate::cached) struct Owner<K, V, E> {
    pub(in crate::cached) shared: Arc<Shared<K, V, E>>,
    _alive: watch::Sender<()>,
}

/// A load of one key.
pub(in crate::cached) struct Plan<'a> {
    /// What invalidates the value.
    pub(in crate::cached) domains: &'a [InvalidationKey],
    pub(in crate::cached) ttl: Duration,
    pub(in crate::cached) reason: Reason,
}

/// How many failures are kept at most.
const MAX_FAILURES: u64 = 1_000;

impl<K, V, E> Owner<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    pub(in crate::cached) fn new(settings: &Settings<K, V, E>) -> Self {
        let (owner, alive) = watch::channel(());
        let shared = Shared {
            store: Store::new(&settings.bounds),
            failures: Store::new(&Bounds { max_entries: MAX_FAILURES.min(settings.bounds.max_entries), bytes: None }),
            flights: Flights::default(),
            generations: Generations::default(),
            counts: Counts::default(),
            link: settings.level.as_ref().map(Link::new),
            alive,
        };
        Self { shared: Arc::new(shared), _alive: owner }
    }
}

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Refreshes a value while it is served, unless that is under way.
    pub(in crate::cached) fn refresh(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        key: K,
        plan: &Plan<'_>,
        source: impl FnOnce(&Arc<Work>) -> Loading<V, E>,
    ) {
        let alive = self.alive.clone();
        let load = |load: Load<K>| {
            let source = source(&load.work);
            self.load(settings, load, plan, source)
        };
        self.flights.start_alone(key, &self.generations.watch(plan.domains), load, ended(alive));
    }

    /// Refreshes a value that a load has found in the second level, with what that would have loaded from.
    fn refresh_after(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        found: Load<K>,
        domains: &[InvalidationKey],
        ttl: Duration,
        source: Loading<V, E>,
    ) {
        let plan = Plan { domains, ttl, reason: Reason::Refresh };
        let load = |load| self.load(settings, load, &plan, source);
        self.flights.follow(found, &self.generations.watch(domains), load, ended(self.alive()));
    }

    /// The body of a load.
    pub(in crate::cached) fn load(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        load: Load<K>,
        plan: &Plan<'_>,
        source: Loading<V, E>,
    ) -> BoxFuture<'static, Outcome<V, E>> {
        let (settings, shared) = (Arc::clone(settings), Arc::clone(self));
        let (domains, ttl, reason) = (plan.domains.to_vec(), plan.ttl, plan.reason);
        let mut begun = shared.link.is_none().then(|| Begun::new(&shared, reason));
        Box::pin(async move {
            let (generation, lease) = match &mut begun {
                Some(_) => (None, None),
                None => match shared.before(&settings, &load, &domains, reason).await {
                    Before::Found(found) => {
                        if found.is_due {
                            shared.refresh_after(&settings, load, &domains, ttl, source);
                        }
                        return Ok((found.value, found.source));
                    }
                    Before::Load(generation, lease) => (generation, lease),
                },
            };
            let begun = begun.unwrap_or_else(|| Begun::new(&shared, reason));
            let began = Instant::now();
            let outcome = match settings.load_timeout {
                None => source.await,
                Some(after) => tokio::time::timeout(after, source).await.unwrap_or_else(|_| {
                    load.work.give_up();
                    Err(E::timed_out(after))
                }),
            };
            match outcome {
                Ok(value) => {
                    begun.has_succeeded();
                    let life = settings.life(ttl, began.elapsed());
                    shared.keep(&settings, &load, &domains, &value, life, generation);
                    // Behind the value in the queue, so that whoever gets it next finds the value.
                    drop(lease);
                    Ok((value, Source::Load))
                }
                Err(error) => shared.failed(&settings, &load, &domains, reason, error),
            }
        })
    }

    /// Decides what a failed load comes to: what there was before, if that may be served, or the error.
    fn failed(
        &self,
        settings: &Settings<K, V, E>,
        load: &Load<K>,
        domains: &[InvalidationKey],
        reason: Reason,
        error: E,
    ) -> Outcome<V, E> {
        let mut is_gone = false;
        if let Some(looked) = self.look(settings, &load.key, domains).filter(|looked| looked.verdict != Verdict::Dead) {
            if error.allows_stale() {
                looked.hold();
                if reason != Reason::Forced {
                    return Ok(looked.stale());
                }
            } else {
                // The source has answered: there is no such thing any more, or not for this caller.
                is_gone = reason != Reason::Forced;
            }
        }
        let negative = settings.negative.as_ref().filter(|negative| (negative.includes)(&error));
        let failure = negative.map(|negative| {
            let ttl = negative.ttl.min(CENTURY);
            let life = Life { age: Duration::ZERO, fresh: ttl, end: ttl, cost: Duration::ZERO };
            Arc::new(Slot::new(error.clone(), load.stamp, life, 1))
        });
        let (key, gone) = (load.key.clone(), is_gone.then(|| load.key.clone()));
        self.flights.keep(load, &self.generations.watch(domains), || {
            if let Some(gone) = gone {
                self.store.remove(&gone);
                if let Some(link) = &self.link {
                    link.queue(Job::Drop { key: gone });
                }
            }
            if let Some(failure) = failure {
                self.failures.put(key, failure);
            }
        });
        Err(error)
    }

    pub(in crate::cached) fn alive(&self) -> watch::Receiver<()> {
        self.alive.clone()
    }
}

/// Returns when the last clone of the cache is dropped.
pub(in crate::cached) async fn ended(mut alive: watch::Receiver<()>) {
    while alive.changed().await.is_ok() {}
}

/// Counts a load, and that it failed if it does not come to a value, however it ends.
struct Begun<K, V, E>(Option<Arc<Shared<K, V, E>>>);

impl<K, V, E> Begun<K, V, E> {
    fn new(shared: &Arc<Shared<K, V, E>>, reason: Reason) -> Self {
        shared.counts.loads.add();
        if reason == Reason::Refresh {
            shared.counts.refreshes.add();
        }
        Self(Some(Arc::clone(shared)))
    }

    fn has_succeeded(mut self) {
        self.0 = None;
    }
}

impl<K, V, E> Drop for Begun<K, V, E> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.counts.failed_loads.add();
        }
    }
}
