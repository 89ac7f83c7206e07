//! What a load does before it asks the source: looks behind the memory of this process, and agrees with the other replicas.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::envelope::Envelope;
use super::error::LoadError;
use super::link::{Job, Link};
use super::loader::{Reason, Shared, Source};
use super::settings::Settings;
use super::single_flight::Load;
use crate::cached::first_level::entry::Life;
use crate::cached::first_level::freshness::Verdict;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::{Generation, Read};
use crate::clock::later;

/// What the second level says.
pub(in crate::cached) enum Behind<V> {
    /// It has a value that can be served.
    Found(Found<V>),
    /// It has none. This is the generation from before a load that begins now.
    Absent(Generation),
    /// It does not answer, or does not know of an invalidation yet.
    Unknown,
}

/// A value that the second level had.
pub(in crate::cached) struct Found<V> {
    pub(in crate::cached) value: V,
    pub(in crate::cached) source: Source,
    /// Whether it is past its time, or soon will be.
    pub(in crate::cached) is_due: bool,
}

/// The right to load what other replicas wait for. Dropped, it goes back.
pub(in crate::cached) struct Lease<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    shared: Arc<Shared<K, V, E>>,
    key: Vec<u8>,
    token: u64,
}

impl<K, V, E> Drop for Lease<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    fn drop(&mut self) {
        if let Some(link) = &self.shared.link {
            link.queue(Job::Release { key: std::mem::take(&mut self.key), token: self.token });
        }
    }
}

/// What a load knows before it asks the source.
pub(in crate::cached) enum Before<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// It need not.
    Found(Found<V>),
    /// It has to, with the generation to put its value with.
    Load(Option<Generation>, Option<Lease<K, V, E>>),
}

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Looks for a value in the second level and, with a lease, waits for another replica to put it there.
    pub(in crate::cached) async fn before(
        self: &Arc<Self>,
        settings: &Arc<Settings<K, V, E>>,
        load: &Load<K>,
        keys: &[InvalidationKey],
        reason: Reason,
    ) -> Before<K, V, E> {
        let Some(link) = &self.link else { return Before::Load(None, None) };
        self.start(settings);
        let Some(key) = link.key(&load.key) else { return Before::Load(None, None) };
        let look = Look { link, settings, load, keys, reason, key: &key };
        let mut generation = match self.look_behind(&look).await {
            Behind::Found(found) => return Before::Found(found),
            Behind::Absent(generation) => generation,
            Behind::Unknown => return Before::Load(None, None),
        };
        let Some(lease) = settings.lease.filter(|_| reason != Reason::Forced) else {
            return Before::Load(Some(generation), None);
        };
        let (token, until) = (fastrand::u64(1..), later(Instant::now(), lease));
        let mut pause = Duration::from_millis(5);
        loop {
            let Some(is_ours) = link.guarded.acquire(settings.second_level_timeout, &key, token, lease).await else {
                return Before::Load(Some(generation), None);
            };
            let ours = is_ours.then(|| Lease { shared: Arc::clone(self), key: key.clone(), token });
            if ours.is_none() {
                if let Some(found) = self.instead_of_waiting(&look) {
                    return Before::Found(found);
                }
                if Instant::now() >= until {
                    return Before::Load(Some(generation), None);
                }
                link.counts.lease_waits.add();
                sleep(pause).await;
                pause = (2 * pause).min(Duration::from_millis(50));
            }
            // Whoever had the lease before may have put the value.
            match self.look_behind(&look).await {
                Behind::Found(found) => return Before::Found(found),
                Behind::Absent(read) => generation = read,
                Behind::Unknown => return Before::Load(None, ours),
            }
            if ours.is_some() {
                return Before::Load(Some(generation), ours);
            }
        }
    }

    /// What there is here of a value that another replica loads, if somebody asked who may have it.
    fn instead_of_waiting(&self, look: &Look<'_, K, V, E>) -> Option<Found<V>> {
        let here = self.look(look.settings, &look.load.key, look.keys)?;
        let may_have_it = look.reason == Reason::Asked && here.verdict != Verdict::Dead;
        may_have_it.then(|| {
            let (value, source) = here.stale();
            Found { value, source, is_due: false }
        })
    }

    async fn look_behind(&self, look: &Look<'_, K, V, E>) -> Behind<V> {
        let Look { link, settings, keys, reason, key, .. } = look;
        let Some(read) = link.read(settings.second_level_timeout, key, keys).await else {
            link.counts.unknown.increment();
            return Behind::Unknown;
        };
        match self.open(look, &read) {
            Some(found) if *reason != Reason::Forced => {
                link.counts.hits.add();
                link.counts.hit.increment();
                Behind::Found(found)
            }
            _ => {
                link.counts.misses.add();
                link.counts.miss.increment();
                Behind::Absent(read.generation)
            }
        }
    }

    /// Opens what the second level has, keeps it here, and says whether it can be served.
    fn open(&self, look: &Look<'_, K, V, E>, read: &Read) -> Option<Found<V>> {
        let Look { link, settings, load, keys, reason, .. } = look;
        let (bytes, remaining) = read.value.as_ref()?;
        let envelope = Envelope::decode(bytes).filter(|envelope| read.is_current(envelope.generation))?;
        let life = envelope.life;
        // Its clock is the second level's: it has been there for as long as its time is shorter.
        let age = life.end.saturating_sub(*remaining).max(life.age);
        let verdict = settings.freshness.judge(age, life.fresh, life.cost, false);
        let is_younger = || {
            let here = self.look(settings, &load.key, keys);
            here.is_none_or(|here| age + Duration::from_millis(100) < here.age())
        };
        let is_served = match (verdict, reason) {
            (Verdict::Dead, _) => return None,
            (Verdict::Fresh | Verdict::Due | Verdict::Stale | Verdict::Held, Reason::Asked) => true,
            // A refresh wants something better than there is.
            (Verdict::Fresh | Verdict::Due, Reason::Refresh) => is_younger(),
            _ => false,
        };
        let is_here = self.look(settings, &load.key, keys).is_some_and(|here| here.verdict != Verdict::Dead);
        if !is_served && is_here {
            return None;
        }
        let value = (link.codec.decode)(envelope.payload)?;
        self.keep(settings, load, keys, &value, Life { age, ..life }, None);
        let is_fresh = matches!(verdict, Verdict::Fresh | Verdict::Due);
        let source = if is_fresh { Source::Hit { age, level: 2 } } else { Source::Stale { age, level: 2 } };
        let is_due = matches!(verdict, Verdict::Due | Verdict::Stale);
        is_served.then_some(Found { value, source, is_due })
    }
}

/// What is looked for.
struct Look<'a, K, V, E> {
    link: &'a Link<K, V>,
    settings: &'a Arc<Settings<K, V, E>>,
    load: &'a Load<K>,
    keys: &'a [InvalidationKey],
    reason: Reason,
    key: &'a [u8],
}
