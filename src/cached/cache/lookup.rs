//! The lookup in the second level before a load asks the source, and the agreement with other replicas on who loads.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::envelope::Envelope;
use super::error::LoadError;
use super::load::{Outcome, Reason, Source};
use super::second_level_client::{Job, SecondLevelClient};
use super::settings::Settings;
use super::single_flight::{Flights, Load};
use crate::cached::first_level::entry::Lifetime;
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::first_level::{FirstLevel, Probe};
use crate::cached::second_level::{Generation, Read};
use crate::clock::later;

/// The answer of the second level.
enum Lookup<V> {
    /// It has a value that can be served.
    Hit(Found<V>),
    /// It has none. This is the generation from before a load that begins now.
    Miss(Generation),
    /// It does not answer, or has not received an invalidation yet.
    Unavailable,
}

/// A value that was found.
pub(in crate::cached) struct Found<V> {
    pub(in crate::cached) value: V,
    pub(in crate::cached) source: Source,
    /// Whether it is past its ttl, or soon will be.
    pub(in crate::cached) is_due: bool,
}

/// The right to load a value that other replicas wait for. Dropped, it is released.
pub(in crate::cached) struct Lease<K, V> {
    client: Arc<SecondLevelClient<K, V>>,
    key: Vec<u8>,
    token: u64,
}

impl<K, V> Drop for Lease<K, V> {
    fn drop(&mut self) {
        self.client.queue(Job::Release { key: std::mem::take(&mut self.key), token: self.token });
    }
}

/// Whether a load has to ask the source.
pub(in crate::cached) enum LoadDecision<K, V> {
    /// It does not: this value was found.
    Serve(Found<V>),
    /// It does, and puts its value into the second level with this generation.
    Load(Option<Generation>, Option<Lease<K, V>>),
}

/// A load that looks for its value in the second level.
pub(in crate::cached) struct Query<'a, K, V, E> {
    pub(in crate::cached) client: &'a Arc<SecondLevelClient<K, V>>,
    pub(in crate::cached) settings: &'a Settings<K, V, E>,
    pub(in crate::cached) first_level: &'a FirstLevel<K, V, E>,
    pub(in crate::cached) flights: &'a Flights<K, Outcome<V, E>>,
    pub(in crate::cached) load: &'a Load<K>,
    pub(in crate::cached) keys: &'a [InvalidationKey],
    pub(in crate::cached) reason: Reason,
    /// The key as the second level knows it.
    pub(in crate::cached) key: &'a [u8],
}

impl<K, V, E> Query<'_, K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Looks for the value and, with a lease, waits for another replica to put it there.
    pub(in crate::cached) async fn decide(&self) -> LoadDecision<K, V> {
        let Self { client, settings, reason, key, .. } = *self;
        let mut generation = match self.look_up().await {
            Lookup::Hit(found) => return LoadDecision::Serve(found),
            Lookup::Miss(generation) => generation,
            Lookup::Unavailable => return LoadDecision::Load(None, None),
        };
        let Some(lease) = settings.lease.filter(|_| reason != Reason::Forced) else {
            return LoadDecision::Load(Some(generation), None);
        };
        let (token, until) = (fastrand::u64(1..), later(Instant::now(), lease));
        let mut pause = Duration::from_millis(5);
        loop {
            let Some(is_ours) = client.level.acquire(settings.second_level_timeout, key, token, lease).await else {
                return LoadDecision::Load(Some(generation), None);
            };
            let ours = is_ours.then(|| Lease { client: Arc::clone(client), key: key.to_vec(), token });
            if ours.is_none() {
                if let Some(found) = self.instead_of_waiting() {
                    return LoadDecision::Serve(found);
                }
                if Instant::now() >= until {
                    return LoadDecision::Load(Some(generation), None);
                }
                client.counts.lease_waits.add();
                sleep(pause).await;
                pause = (2 * pause).min(Duration::from_millis(50));
            }
            // The last owner of the lease may have put the value.
            match self.look_up().await {
                Lookup::Hit(found) => return LoadDecision::Serve(found),
                Lookup::Miss(read) => generation = read,
                Lookup::Unavailable => return LoadDecision::Load(None, ours),
            }
            if ours.is_some() {
                return LoadDecision::Load(Some(generation), ours);
            }
        }
    }

    /// Returns the value that this process has while another replica loads a new one, if a caller asked and may have it.
    fn instead_of_waiting(&self) -> Option<Found<V>> {
        let here = self.probe()?;
        let may_have_it = self.reason == Reason::Asked && here.verdict != Verdict::Dead;
        may_have_it.then(|| {
            let source = Source::Stale { age: here.age(), level: 1 };
            Found { value: here.value(), source, is_due: false }
        })
    }

    async fn look_up(&self) -> Lookup<V> {
        let Self { client, settings, keys, reason, key, .. } = *self;
        let Some(read) = client.read(settings.second_level_timeout, key, keys).await else {
            client.counts.unknown.increment();
            return Lookup::Unavailable;
        };
        match self.open(&read) {
            Some(found) if reason != Reason::Forced => {
                client.counts.hits.add();
                client.counts.hit.increment();
                Lookup::Hit(found)
            }
            _ => {
                client.counts.misses.add();
                client.counts.miss.increment();
                Lookup::Miss(read.generation)
            }
        }
    }

    /// Decodes the value of the second level, keeps it in this process, and returns it if it can be served.
    fn open(&self, read: &Read) -> Option<Found<V>> {
        let Self { client, settings, first_level, flights, load, keys, reason, .. } = *self;
        let (bytes, remaining) = read.value.as_ref()?;
        let envelope = Envelope::decode(bytes).filter(|envelope| read.is_current(envelope.generation))?;
        let lifetime = envelope.lifetime;
        // The clock is that of the second level: the value has been there for as long as its remaining time is shorter.
        let age = lifetime.end.saturating_sub(*remaining).max(lifetime.age);
        let verdict = settings.freshness.judge(age, lifetime.fresh, lifetime.cost, false);
        let is_younger = || self.probe().is_none_or(|here| age + Duration::from_millis(100) < here.age());
        let is_served = match (verdict, reason) {
            (Verdict::Dead, _) => return None,
            (Verdict::Fresh | Verdict::Due | Verdict::Stale | Verdict::Cooldown, Reason::Asked) => true,
            // A refresh wants a better value than the one that is kept.
            (Verdict::Fresh | Verdict::Due, Reason::Refresh) => is_younger(),
            _ => false,
        };
        let is_here = self.probe().is_some_and(|here| here.verdict != Verdict::Dead);
        if !is_served && is_here {
            return None;
        }
        let value = (client.codec.decode)(envelope.payload)?;
        let entry = settings.entry(&load.key, &value, load.stamp, Lifetime { age, ..lifetime });
        let key = load.key.clone();
        flights.keep(load, &first_level.generations.watch(keys), || first_level.put(key, entry));
        let is_fresh = matches!(verdict, Verdict::Fresh | Verdict::Due);
        let source = if is_fresh { Source::Hit { age, level: 2 } } else { Source::Stale { age, level: 2 } };
        let is_due = matches!(verdict, Verdict::Due | Verdict::Stale);
        is_served.then_some(Found { value, source, is_due })
    }

    fn probe(&self) -> Option<Probe<V>> {
        self.first_level.probe(&self.load.key, self.keys, &self.settings.policy(self.client.trust(self.settings)))
    }
}
