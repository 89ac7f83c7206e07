//! What the clones of a cache share, and what a load does.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::behind::Before;
use super::error::LoadError;
use super::flight::{Flights, Load};
use super::freshness::Verdict;
use super::generations::Generations;
use super::invalidation_key::InvalidationKey;
use super::link::{Job, Link};
use super::settings::Settings;
use super::stats::Counts;
use super::store::{Bounds, Life, Slot, Store};
use crate::shared::Abandoned;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a cache: this process' (level 1), or one behind it.
    Hit { age: Duration, level: u8 },
    /// From a cache, past its ttl.
    Stale { age: Duration, level: u8 },
    /// From where it is loaded.
    Load,
}

/// What a load ends with.
pub(super) type Outcome<V, E> = Result<(V, Source), E>;

/// Asks the source. On the heap: it is handed on through several futures, each of which would store it again.
pub(super) type Loading<V, E> = BoxFuture<'static, Result<V, E>>;

/// Why a load was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Somebody waits for the value.
    Asked,
    /// A value is past its time, or soon will be. Nobody waits.
    Refresh,
    /// Somebody wants a value that is new, whatever there is.
    Forced,
}

pub(super) struct Shared<K, V, E> {
    pub(super) store: Store<K, V>,
    failures: Store<K, E>,
    pub(super) flights: Flights<K, Outcome<V, E>>,
    pub(super) generations: Generations,
    pub(super) counts: Counts,
    pub(super) link: Option<Link<K, V>>,
    alive: watch::Receiver<()>,
}

/// Held by the clones of a cache, and by nothing that runs in the background: it ends when this is dropped.
pub(super) struct Owner<K, V, E> {
    pub(super) shared: Arc<Shared<K, V, E>>,
    _alive: watch::Sender<()>,
}

/// A load of one key.
pub(super) struct Plan<'a> {
    /// What invalidates the value.
    pub(super) domains: &'a [InvalidationKey],
    pub(super) ttl: Duration,
    pub(super) reason: Reason,
}

/// How many failures are kept at most.
const MAX_FAILURES: u64 = 1_000;

impl<K, V, E> Owner<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    pub(super) fn new(settings: &Settings<K, V, E>) -> Self {
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
    /// Looks a value up in this process' memory.
    pub(super) fn look(&self, settings: &Settings<K, V, E>, key: &K, domains: &[InvalidationKey]) -> Option<Looked<V>> {
        let slot = self.store.get(key)?;
        let now = Instant::now();
        let verdict = self.judge(settings, &slot, domains, now);
        Some(Looked { slot, verdict, now })
    }

    /// Looks for a value that can be served as it is.
    pub(super) fn find(
        &self,
        settings: &Settings<K, V, E>,
        key: &K,
        domains: &[InvalidationKey],
    ) -> Option<(V, Source)> {
        let looked = self.look(settings, key, domains)?;
        (!matches!(looked.verdict, Verdict::Fallback | Verdict::Dead)).then(|| self.hit(&looked))
    }

    pub(super) fn hit(&self, looked: &Looked<V>) -> (V, Source) {
        let age = looked.slot.age(looked.now);
        self.counts.hits.add();
        let source = if matches!(looked.verdict, Verdict::Fresh | Verdict::Due) {
            Source::Hit { age, level: 1 }
        } else {
            self.counts.stale_hits.add();
            Source::Stale { age, level: 1 }
        };
        (looked.slot.value.clone(), source)
    }

    /// Looks for a failure that was kept.
    pub(super) fn find_failure(&self, settings: &Settings<K, V, E>, key: &K, domains: &[InvalidationKey]) -> Option<E> {
        settings.negative.as_ref()?;
        let slot = self.failures.get(key)?;
        let now = Instant::now();
        if !slot.is_within_ttl(now) || !self.generations.is_current(slot.stamp, domains) {
            return None;
        }
        self.counts.negative_hits.add();
        Some(slot.value.clone().told_again(slot.age(now)))
    }

    /// Refreshes a value while it is served, unless that is under way.
    pub(super) fn refresh(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        key: K,
        plan: &Plan<'_>,
        source: impl FnOnce(Abandoned) -> Loading<V, E>,
    ) {
        let alive = self.alive.clone();
        let load = |load: Load<K>| {
            let source = source(load.abandoned.clone());
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
    pub(super) fn load(
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
                    load.abandoned.set();
                    Err(E::timed_out(after))
                }),
            };
            match outcome {
                Ok(value) => {
                    begun.has_succeeded();
                    // After an invalidation, a newer load may have been kept already.
                    if !load.superseded.is_set() && shared.generations.is_current(load.stamp, &domains) {
                        let key = load.key.clone();
                        let slot = settings.keep(&shared.store, key, &value, ttl, began.elapsed(), load.stamp);
                        if let (Some(link), Some(slot), Some(generation)) = (&shared.link, slot, generation) {
                            link.queue(Job::Put { key: load.key, slot, generation });
                        }
                    }
                    // Behind the value in the queue, so that whoever gets it next finds the value.
                    drop(lease);
                    Ok((value, Source::Load))
                }
                Err(error) => shared.failed(&settings, load, &domains, reason, error),
            }
        })
    }

    /// Decides what a failed load comes to: what there was before, if that may be served, or the error.
    fn failed(
        &self,
        settings: &Settings<K, V, E>,
        load: Load<K>,
        domains: &[InvalidationKey],
        reason: Reason,
        error: E,
    ) -> Outcome<V, E> {
        if let Some(looked) = self.look(settings, &load.key, domains).filter(|looked| looked.verdict != Verdict::Dead) {
            if error.allows_stale() {
                looked.slot.hold(looked.now);
                if reason != Reason::Forced {
                    return Ok(looked.stale());
                }
            } else if reason != Reason::Forced {
                // The source has answered: there is no such thing any more, or not for this caller.
                self.store.remove(&load.key);
                if let Some(link) = &self.link {
                    link.queue(Job::Drop { key: load.key.clone() });
                }
            }
        }
        if let Some(negative) = &settings.negative
            && (negative.includes)(&error)
            && self.generations.is_current(load.stamp, domains)
        {
            let life = Life { age: Duration::ZERO, fresh: negative.ttl, end: negative.ttl, cost: Duration::ZERO };
            self.failures.put(load.key, Arc::new(Slot::new(error.clone(), load.stamp, life, 1)));
        }
        Err(error)
    }

    fn judge(
        &self,
        settings: &Settings<K, V, E>,
        slot: &Slot<V>,
        domains: &[InvalidationKey],
        now: Instant,
    ) -> Verdict {
        let trust = self.link.as_ref().map_or(Duration::MAX, |link| link.trust(settings));
        let is_current = self.generations.is_current(slot.stamp, domains);
        slot.judge(is_current, now, &settings.freshness, settings.idle_time, trust)
    }

    pub(super) fn alive(&self) -> watch::Receiver<()> {
        self.alive.clone()
    }
}

/// A value that was found, and what may be done with it.
pub(super) struct Looked<V> {
    slot: Arc<Slot<V>>,
    pub(super) verdict: Verdict,
    now: Instant,
}

impl<V> Looked<V> {
    pub(super) fn age(&self) -> Duration {
        self.slot.age(self.now)
    }
}

impl<V: Clone> Looked<V> {
    /// The value, served past its ttl.
    pub(super) fn stale(&self) -> (V, Source) {
        (self.slot.value.clone(), Source::Stale { age: self.age(), level: 1 })
    }
}

/// Returns when the last clone of the cache is dropped.
pub(super) async fn ended(mut alive: watch::Receiver<()>) {
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
