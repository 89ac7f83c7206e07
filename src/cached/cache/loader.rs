//! The loader: it answers from memory, joins a load under way, or begins one.

use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::LoadError;
use super::load::{LoadPlan, Loading, Outcome, Reason, Source, ended};
use super::lookup::{LoadDecision, Query};
use super::second_level_client::{Job, SecondLevelClient};
use super::settings::Settings;
use super::single_flight::{Flights, Load, Waiter};
use super::stats::{CountedLoad, Counts, Stats};
use super::sync;
use crate::cached::first_level::entry::{Entry, Lifetime, Policy};
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::first_level::{FirstLevel, KeptFailure, Probe};
use crate::clock::CENTURY;
use crate::shared_work::{Waits, Work};

/// The settings of one clone of a cache, and the state that all clones share. A load holds one, and does not keep the cache alive.
pub(in crate::cached) struct Loader<K, V, E> {
    pub(in crate::cached) settings: Arc<Settings<K, V, E>>,
    shared: Arc<Shared<K, V, E>>,
}

struct Shared<K, V, E> {
    first_level: Arc<FirstLevel<K, V, E>>,
    flights: Flights<K, Outcome<V, E>>,
    counts: Arc<Counts>,
    client: Option<Arc<SecondLevelClient<K, V>>>,
    alive: watch::Receiver<()>,
}

impl<K, V, E> Clone for Loader<K, V, E> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), shared: Arc::clone(&self.shared) }
    }
}

impl<K, V, E> Loader<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Work in the background ends when the sender of `alive` is dropped.
    pub(in crate::cached) fn new(settings: Settings<K, V, E>, alive: watch::Receiver<()>) -> Self {
        let shared = Shared {
            first_level: Arc::new(FirstLevel::new(&settings.bounds)),
            flights: Flights::default(),
            counts: Arc::default(),
            client: settings.level.as_ref().map(SecondLevelClient::new).map(Arc::new),
            alive,
        };
        Self { settings: Arc::new(settings), shared: Arc::new(shared) }
    }

    pub(in crate::cached) fn client(&self) -> Option<&SecondLevelClient<K, V>> {
        self.shared.client.as_deref()
    }

    /// Returns a value that can be served as it is, and counts a hit.
    pub(in crate::cached) fn find(
        &self,
        caller: &impl Waits,
        key: &K,
        keys: &[InvalidationKey],
    ) -> Option<(V, Source)> {
        let probe = self.probe(key, keys)?;
        probe.is_servable().then(|| self.hit(caller, &probe))
    }

    /// Returns the value of `key` from memory, from a load under way, or from a load that begins.
    pub(in crate::cached) async fn get_or_load(
        &self,
        caller: &impl Waits,
        key: K,
        keys: &[InvalidationKey],
        ttl: Duration,
        load: impl FnOnce(&Arc<Work>) -> Loading<V, E>,
    ) -> Outcome<V, E> {
        if let Some(probe) = self.probe(&key, keys) {
            match probe.verdict {
                Verdict::Fresh | Verdict::Cooldown => return Ok(self.hit(caller, &probe)),
                Verdict::Due | Verdict::Stale => {
                    self.refresh_in_background(key, &LoadPlan { keys, ttl, reason: Reason::Refresh }, load);
                    return Ok(self.hit(caller, &probe));
                }
                Verdict::Fallback | Verdict::Dead => {}
            }
        }
        if let Some(error) = self.find_failure(caller, &key, keys) {
            return Err(error);
        }
        if caller.is_cancelled() {
            return Err(E::cancelled());
        }
        // On the heap, so that a hit has no load to carry along.
        Box::pin(async move {
            let plan = LoadPlan { keys, ttl, reason: Reason::Asked };
            let joined = self.shared.flights.join(
                key,
                &self.shared.first_level.generations.watch(keys),
                // A load may have ended between the lookup above and the one under the lock.
                |key| self.find(caller, key, keys),
                |begun| {
                    let source = load(&begun.work);
                    self.load(begun, &plan, source)
                },
            );
            match joined {
                Either::Left(hit) => Ok(hit),
                Either::Right(waiter) => {
                    caller.join(&waiter.work);
                    self.wait(caller, waiter).await
                }
            }
        })
        .await
    }

    /// Loads the value of `key` now and keeps it in place of the one that is kept. A load under way is not kept.
    pub(in crate::cached) async fn refresh(
        &self,
        caller: &impl Waits,
        key: K,
        keys: &[InvalidationKey],
        ttl: Duration,
        load: impl FnOnce(&Arc<Work>) -> Loading<V, E>,
    ) -> Outcome<V, E> {
        let plan = LoadPlan { keys, ttl, reason: Reason::Forced };
        let watch = self.shared.first_level.generations.watch(keys);
        let waiter = self.shared.flights.supersede(key, &watch, |begun| {
            let source = load(&begun.work);
            self.load(begun, &plan, source)
        });
        self.wait(caller, waiter).await
    }

    /// Keeps `value` from now on, whatever the outcome of a load under way.
    pub(in crate::cached) fn insert(&self, key: K, key_of_entry: InvalidationKey, value: V) {
        let lifetime = self.settings.lifetime(self.settings.freshness.ttl, Duration::ZERO);
        let weight = self.settings.weigh(&key, &value);
        self.shared.flights.exclude(|| {
            self.invalidate(&[key_of_entry]);
            let stamp = self.shared.first_level.generations.stamp();
            let entry = weight.map(|weight| Arc::new(Entry::new(value, stamp, lifetime, weight)));
            self.shared.first_level.put(key, entry);
        });
    }

    /// Removes the value of `key` from this process. It invalidates nothing.
    pub(in crate::cached) fn remove(&self, key: &K) {
        self.shared.first_level.remove(key);
    }

    /// Invalidates `keys` in this process at once, and on all replicas as soon as the second level has received them.
    pub(in crate::cached) fn invalidate(&self, keys: &[InvalidationKey]) {
        // First the note: a load that begins after the invalidation must not read from a level that has not received it.
        if let Some(client) = self.client() {
            client.note(keys);
        }
        self.shared.first_level.generations.invalidate(keys);
        self.flush();
    }

    pub(in crate::cached) fn invalidate_everything(&self) {
        if let Some(client) = self.client() {
            client.note(&[client.everything]);
        }
        self.shared.first_level.clear();
        self.flush();
    }

    fn flush(&self) {
        if let Some(client) = self.client() {
            self.start();
            client.outbox.wake();
        }
    }

    /// Starts the work in the background, if there is a second level and a runtime, and it does not run.
    pub(in crate::cached) fn start(&self) {
        let Shared { client, first_level, alive, .. } = &*self.shared;
        if let Some(client) = client {
            sync::start(client, first_level, self.settings.second_level_timeout, alive);
        }
    }

    pub(in crate::cached) fn stats(&self) -> Stats {
        let Shared { client, first_level, counts, .. } = &*self.shared;
        let stats = counts.stats(first_level.size(&self.settings.bounds));
        Stats { second_level: client.as_deref().map(SecondLevelClient::stats), ..stats }
    }

    fn probe(&self, key: &K, keys: &[InvalidationKey]) -> Option<Probe<V>> {
        self.shared.first_level.probe(key, keys, &self.policy())
    }

    fn policy(&self) -> Policy<'_> {
        self.settings.policy(self.client().map_or(Duration::MAX, |client| client.trust(&self.settings)))
    }

    fn hit(&self, caller: &impl Waits, probe: &Probe<V>) -> (V, Source) {
        caller.gets_from_cache(probe.stamp());
        self.shared.counts.hits.add();
        if !probe.is_fresh() {
            self.shared.counts.stale_hits.add();
        }
        (probe.value(), Source::of_probe(probe))
    }

    fn find_failure(&self, caller: &impl Waits, key: &K, keys: &[InvalidationKey]) -> Option<E> {
        self.settings.negative.as_ref()?;
        let KeptFailure { error, age, stamp } = self.shared.first_level.failure(key, keys, self.policy().trust)?;
        self.shared.counts.negative_hits.add();
        caller.gets_from_cache(stamp);
        Some(error.with_age(age))
    }

    async fn wait(&self, caller: &impl Waits, mut waiter: Waiter<Outcome<V, E>>) -> Outcome<V, E> {
        self.shared.counts.misses.add();
        let Some(outcome) = caller.wait(pin!(waiter.outcome())).await else { return Err(E::cancelled()) };
        match &outcome {
            // Instead of a failure: when it was loaded is not known here.
            Some(Ok((_, Source::Stale { level: 1, .. }))) => caller.gets_from_cache(0),
            Some(Ok((_, Source::Hit { .. } | Source::Stale { .. }))) => caller.gets_from_cache(waiter.stamp),
            _ if waiter.has_joined => caller.gets_from_cache(waiter.stamp),
            _ => {}
        }
        outcome.unwrap_or_else(|| Err(E::aborted()))
    }

    /// Refreshes a value while it is served, unless a load is under way.
    fn refresh_in_background(&self, key: K, plan: &LoadPlan<'_>, source: impl FnOnce(&Arc<Work>) -> Loading<V, E>) {
        let load = |load: Load<K>| {
            let source = source(&load.work);
            self.load(load, plan, source)
        };
        let watch = self.shared.first_level.generations.watch(plan.keys);
        self.shared.flights.start_alone(key, &watch, load, ended(self.shared.alive.clone()));
    }

    /// Refreshes a value that a load has found in the second level, from the source of that load.
    fn refresh_after(&self, found: Load<K>, keys: &[InvalidationKey], ttl: Duration, source: Loading<V, E>) {
        let plan = LoadPlan { keys, ttl, reason: Reason::Refresh };
        let load = |load| self.load(load, &plan, source);
        let watch = self.shared.first_level.generations.watch(keys);
        self.shared.flights.follow(found, &watch, load, ended(self.shared.alive.clone()));
    }

    /// The body of a load.
    fn load(&self, load: Load<K>, plan: &LoadPlan<'_>, source: Loading<V, E>) -> BoxFuture<'static, Outcome<V, E>> {
        let loader = self.clone();
        let (keys, ttl, reason) = (plan.keys.to_vec(), plan.ttl, plan.reason);
        let mut begun =
            loader.shared.client.is_none().then(|| CountedLoad::new(&loader.shared.counts, reason == Reason::Refresh));
        Box::pin(async move {
            let (generation, lease) = match &mut begun {
                Some(_) => (None, None),
                None => match loader.ask_second_level(&load, &keys, reason).await {
                    LoadDecision::Serve(found) => {
                        if found.is_due {
                            loader.refresh_after(load, &keys, ttl, source);
                        }
                        return Ok((found.value, found.source));
                    }
                    LoadDecision::Load(generation, lease) => (generation, lease),
                },
            };
            let begun = begun.unwrap_or_else(|| CountedLoad::new(&loader.shared.counts, reason == Reason::Refresh));
            let began = Instant::now();
            let outcome = match loader.settings.load_timeout {
                None => source.await,
                Some(after) => tokio::time::timeout(after, source).await.unwrap_or_else(|_| {
                    load.work.give_up();
                    Err(E::timed_out(after))
                }),
            };
            match outcome {
                Ok(value) => {
                    begun.has_succeeded();
                    let lifetime = loader.settings.lifetime(ttl, began.elapsed());
                    // Before the lock: the user's code weighs and clones the value.
                    let entry = loader.settings.entry(&load.key, &value, load.stamp_of_value(), lifetime);
                    // The level cannot know whether a value that a cache further in had is older than an invalidation.
                    let generation = generation.filter(|_| load.work.oldest_answer().is_none());
                    let (key, put) = (load.key.clone(), generation.map(|generation| (load.key.clone(), generation)));
                    let shared = &loader.shared;
                    shared.flights.keep(&load, &shared.first_level.generations.watch(&keys), || {
                        if let (Some(client), Some(entry), Some((key, generation))) = (&shared.client, &entry, put) {
                            client.queue(Job::Put { key, entry: Arc::clone(entry), generation });
                        }
                        shared.first_level.put(key, entry);
                    });
                    // After the value in the queue, so that the next owner of the lease finds the value.
                    drop(lease);
                    Ok((value, Source::Load))
                }
                Err(error) => loader.failed(&load, &keys, reason, error),
            }
        })
    }

    async fn ask_second_level(&self, load: &Load<K>, keys: &[InvalidationKey], reason: Reason) -> LoadDecision<K, V> {
        let Shared { client: Some(client), first_level, flights, .. } = &*self.shared else {
            return LoadDecision::Load(None, None);
        };
        self.start();
        let Some(key) = client.key(&load.key) else { return LoadDecision::Load(None, None) };
        let settings = &*self.settings;
        Query { client, settings, first_level, flights, load, keys, reason, key: &key }.decide().await
    }

    /// Decides the outcome of a load that failed: the value that was kept, if it may be served, or the error.
    fn failed(&self, load: &Load<K>, keys: &[InvalidationKey], reason: Reason, error: E) -> Outcome<V, E> {
        let mut is_gone = false;
        if let Some(probe) = self.probe(&load.key, keys).filter(|probe| probe.verdict != Verdict::Dead) {
            if error.allows_stale() {
                probe.cool_down();
                if reason != Reason::Forced {
                    return Ok((probe.value(), Source::Stale { age: probe.age(), level: 1 }));
                }
            } else {
                // The source has answered: the value no longer exists, or not for this caller.
                is_gone = reason != Reason::Forced;
            }
        }
        let negative = self.settings.negative.as_ref().filter(|negative| (negative.includes)(&error));
        let failure = negative.map(|negative| {
            let ttl = negative.ttl.min(CENTURY);
            let lifetime = Lifetime { age: Duration::ZERO, fresh: ttl, end: ttl, cost: Duration::ZERO };
            Arc::new(Entry::new(error.clone(), load.stamp_of_value(), lifetime, 1))
        });
        let (key, gone) = (load.key.clone(), is_gone.then(|| load.key.clone()));
        let Shared { client, first_level, flights, .. } = &*self.shared;
        flights.keep(load, &first_level.generations.watch(keys), || {
            if let Some(gone) = gone {
                first_level.remove(&gone);
                if let Some(client) = client {
                    client.queue(Job::Remove { key: gone });
                }
            }
            if let Some(failure) = failure {
                first_level.put_failure(key, failure);
            }
        });
        Err(error)
    }
}
