//! The loader: it answers from memory, joins a load under way, or begins one.

use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use tokio::sync::watch;

use super::error::LoadError;
use super::load::{LoadPlan, Loading, Outcome, Reason, Source, ended};
use super::load_task::LoadTask;
use super::second_level_client::SecondLevelClient;
use super::settings::Settings;
use super::single_flight::{Load, Waiter};
use super::state::{Shared, State};
use super::stats::Stats;
use crate::cached::first_level::entry::Entry;
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::first_level::{KeptFailure, Probe};
use crate::shared_work::{Waits, Work};

pub(in crate::cached) struct Loader<K, V, E> {
    pub(in crate::cached) state: State<K, V, E>,
}

impl<K, V, E> Loader<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Work in the background ends when the sender of `alive` is dropped.
    pub(in crate::cached) fn new(settings: Settings<K, V, E>, alive: watch::Receiver<()>) -> Self {
        Self { state: State::new(settings, alive) }
    }

    pub(in crate::cached) fn client(&self) -> Option<&SecondLevelClient<K, V>> {
        self.state.client()
    }

    /// Returns a value that can be served as it is, and counts a hit.
    pub(in crate::cached) fn find(
        &self,
        caller: &impl Waits,
        key: &K,
        keys: &[InvalidationKey],
    ) -> Option<(V, Source)> {
        let probe = self.state.probe(key, keys)?;
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
        if let Some(probe) = self.state.probe(&key, keys) {
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
            let joined = self.state.shared.flights.join(
                key,
                &self.state.shared.first_level.generations.watch(keys),
                // A load may have ended between the lookup above and the one under the lock.
                |key| self.find(caller, key, keys),
                |begun| {
                    let source = load(&begun.work);
                    LoadTask::new(&self.state, begun, &plan).run(source)
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
        let watch = self.state.shared.first_level.generations.watch(keys);
        let waiter = self.state.shared.flights.supersede(key, &watch, |begun| {
            let source = load(&begun.work);
            LoadTask::new(&self.state, begun, &plan).run(source)
        });
        self.wait(caller, waiter).await
    }

    /// Keeps `value` from now on, whatever the outcome of a load under way.
    pub(in crate::cached) fn insert(&self, key: K, key_of_entry: InvalidationKey, value: V) {
        let lifetime = self.state.settings.lifetime(self.state.settings.freshness.ttl, Duration::ZERO);
        let weight = self.state.settings.weigh(&key, &value);
        self.state.shared.flights.exclude(|| {
            self.invalidate(&[key_of_entry]);
            let stamp = self.state.shared.first_level.generations.stamp();
            let entry = weight.map(|weight| Arc::new(Entry::new(value, stamp, lifetime, weight)));
            self.state.shared.first_level.put(key, entry);
        });
    }

    /// Removes the value of `key` from this process. It invalidates nothing.
    pub(in crate::cached) fn remove(&self, key: &K) {
        self.state.shared.first_level.remove(key);
    }

    /// Invalidates `keys` in this process at once, and on all replicas as soon as the second level has received them.
    pub(in crate::cached) fn invalidate(&self, keys: &[InvalidationKey]) {
        // First the note: a load that begins after the invalidation must not read from a level that has not received it.
        if let Some(client) = self.client() {
            client.note(keys);
        }
        self.state.shared.first_level.generations.invalidate(keys);
        self.flush();
    }

    pub(in crate::cached) fn invalidate_everything(&self) {
        if let Some(client) = self.client() {
            client.note(&[client.everything]);
        }
        self.state.shared.first_level.clear();
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
        self.state.start();
    }

    pub(in crate::cached) fn stats(&self) -> Stats {
        let Shared { client, first_level, counts, .. } = &*self.state.shared;
        let stats = counts.stats(first_level.size(&self.state.settings.bounds));
        Stats { second_level: client.as_deref().map(SecondLevelClient::stats), ..stats }
    }

    fn hit(&self, caller: &impl Waits, probe: &Probe<V>) -> (V, Source) {
        caller.gets_from_cache(probe.stamp());
        self.state.shared.counts.hits.add();
        if !probe.is_fresh() {
            self.state.shared.counts.stale_hits.add();
        }
        (probe.value(), Source::of_probe(probe))
    }

    fn find_failure(&self, caller: &impl Waits, key: &K, keys: &[InvalidationKey]) -> Option<E> {
        self.state.settings.negative.as_ref()?;
        let KeptFailure { error, age, stamp } =
            self.state.shared.first_level.failure(key, keys, self.state.policy().trust)?;
        self.state.shared.counts.negative_hits.add();
        caller.gets_from_cache(stamp);
        Some(error.with_age(age))
    }

    async fn wait(&self, caller: &impl Waits, mut waiter: Waiter<Outcome<V, E>>) -> Outcome<V, E> {
        self.state.shared.counts.misses.add();
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
            LoadTask::new(&self.state, load, plan).run(source)
        };
        let watch = self.state.shared.first_level.generations.watch(plan.keys);
        self.state.shared.flights.start_alone(key, &watch, load, ended(self.state.shared.alive.clone()));
    }
}
