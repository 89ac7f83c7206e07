//! A load in a task of its own: it asks the second level and the source, and keeps the value or the failure.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::error::LoadError;
use super::load::{LoadPlan, Loading, Outcome, Reason, Source, ended};
use super::lookup::{LoadDecision, Query};
use super::second_level_client::Job;
use super::single_flight::Load;
use super::state::{Shared, State};
use super::stats::CountedLoad;
use crate::cached::first_level::entry::{Entry, Lifetime};
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::Generation;
use crate::clock::CENTURY;

pub(in crate::cached) struct LoadTask<K, V, E> {
    state: State<K, V, E>,
    load: Load<K>,
    keys: Vec<InvalidationKey>,
    ttl: Duration,
    reason: Reason,
}

impl<K, V, E> LoadTask<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    pub(in crate::cached) fn new(state: &State<K, V, E>, load: Load<K>, plan: &LoadPlan<'_>) -> Self {
        Self { state: state.clone(), load, keys: plan.keys.to_vec(), ttl: plan.ttl, reason: plan.reason }
    }

    /// Returns the value, and where it comes from, or the error of the source.
    pub(in crate::cached) fn run(self, source: Loading<V, E>) -> BoxFuture<'static, Outcome<V, E>> {
        // Without a second level, the load counts from now on.
        let mut begun = self.state.shared.client.is_none().then(|| self.count());
        Box::pin(async move {
            let (generation, lease) = match &mut begun {
                Some(_) => (None, None),
                None => match self.ask_second_level().await {
                    LoadDecision::Serve(found) => {
                        if found.is_due {
                            self.refresh(source);
                        }
                        return Ok((found.value, found.source));
                    }
                    LoadDecision::Load(generation, lease) => (generation, lease),
                },
            };
            let begun = begun.unwrap_or_else(|| self.count());
            let began = Instant::now();
            let outcome = match self.state.settings.load_timeout {
                None => source.await,
                Some(after) => tokio::time::timeout(after, source).await.unwrap_or_else(|_| {
                    self.load.work.give_up();
                    Err(E::timed_out(after))
                }),
            };
            match outcome {
                Ok(value) => {
                    begun.has_succeeded();
                    self.keep(&value, began.elapsed(), generation);
                    // After the value in the queue, so that the next owner of the lease finds the value.
                    drop(lease);
                    Ok((value, Source::Load))
                }
                Err(error) => self.failed(error),
            }
        })
    }

    fn count(&self) -> CountedLoad {
        CountedLoad::new(&self.state.shared.counts, self.reason == Reason::Refresh)
    }

    async fn ask_second_level(&self) -> LoadDecision<K, V> {
        let Shared { client: Some(client), first_level, flights, .. } = &*self.state.shared else {
            return LoadDecision::Load(None, None);
        };
        self.state.start();
        let Some(key) = client.key(&self.load.key) else { return LoadDecision::Load(None, None) };
        let (settings, load, keys, reason) = (&*self.state.settings, &self.load, &*self.keys, self.reason);
        Query { client, settings, first_level, flights, load, keys, reason, key: &key }.decide().await
    }

    /// Refreshes the value that this load has found in the second level, from its source.
    fn refresh(self, source: Loading<V, E>) {
        let Self { state, load, keys, ttl, .. } = self;
        let plan = LoadPlan { keys: &keys, ttl, reason: Reason::Refresh };
        let Shared { first_level, flights, alive, .. } = &*state.shared;
        let watch = first_level.generations.watch(&keys);
        flights.follow(load, &watch, |load| Self::new(&state, load, &plan).run(source), ended(alive.clone()));
    }

    /// Keeps the value here, and in the second level if that has answered with its generation.
    fn keep(&self, value: &V, cost: Duration, generation: Option<Generation>) {
        let Self { state: State { settings, shared }, load, keys, ttl, .. } = self;
        // Before the lock: the user's code weighs and clones the value.
        let entry = settings.entry(&load.key, value, load.stamp_of_value(), settings.lifetime(*ttl, cost));
        // The level cannot know whether a value that a cache further in had is older than an invalidation.
        let generation = generation.filter(|_| load.work.oldest_answer().is_none());
        let (key, put) = (load.key.clone(), generation.map(|generation| (load.key.clone(), generation)));
        let Shared { client, first_level, flights, .. } = &**shared;
        flights.keep(load, &first_level.generations.watch(keys), || {
            if let (Some(client), Some(entry), Some((key, generation))) = (client, &entry, put) {
                client.queue(Job::Put { key, entry: Arc::clone(entry), generation });
            }
            first_level.put(key, entry);
        });
    }

    /// Decides the outcome of a load that failed: the value that was kept, if it may be served, or the error.
    fn failed(&self, error: E) -> Outcome<V, E> {
        let Self { state, load, keys, reason, .. } = self;
        let mut is_gone = false;
        if let Some(probe) = state.probe(&load.key, keys).filter(|probe| probe.verdict != Verdict::Dead) {
            if error.allows_stale() {
                probe.cool_down();
                if *reason != Reason::Forced {
                    return Ok((probe.value(), Source::Stale { age: probe.age(), level: 1 }));
                }
            } else {
                // The source has answered: the value no longer exists, or not for this caller.
                is_gone = *reason != Reason::Forced;
            }
        }
        let negative = state.settings.negative.as_ref().filter(|negative| (negative.includes)(&error));
        let failure = negative.map(|negative| {
            let ttl = negative.ttl.min(CENTURY);
            let lifetime = Lifetime { age: Duration::ZERO, fresh: ttl, end: ttl, cost: Duration::ZERO };
            Arc::new(Entry::new(error.clone(), load.stamp_of_value(), lifetime, 1))
        });
        let (key, gone) = (load.key.clone(), is_gone.then(|| load.key.clone()));
        let Shared { client, first_level, flights, .. } = &*state.shared;
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
