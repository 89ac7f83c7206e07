//! What ties a cache to its second level: names, what waits to be told or written, and what is counted.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::envelope::Envelope;
use super::outbox::Pending;
use super::settings::Settings;
use super::stats::SecondLevelStats;
use crate::cached::first_level::entry::Slot;
use crate::cached::first_level::generations::Generations;
use crate::cached::first_level::invalidation_key::{InvalidationKey, Target, hash};
use crate::cached::second_level::resilient::Guarded;
use crate::cached::second_level::{Generation, Put, Read, SecondLevel};
use crate::telemetry::Count;
use crate::telemetry::Counter;

/// How keys and values are written for a second level.
pub(in crate::cached) struct Codec<K, V> {
    pub(in crate::cached) key: fn(&K, &mut dyn std::io::Write) -> std::io::Result<()>,
    pub(in crate::cached) encode: fn(&V) -> Option<Vec<u8>>,
    pub(in crate::cached) decode: fn(&[u8]) -> Option<V>,
}

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Codec<K, V> {}

/// What a cache is told of its second level.
pub(in crate::cached) struct LevelSettings<K, V> {
    pub(in crate::cached) level: Arc<dyn SecondLevel>,
    /// Which of the caches that share the level this is.
    pub(in crate::cached) name: String,
    pub(in crate::cached) codec: Codec<K, V>,
}

impl<K, V> Clone for LevelSettings<K, V> {
    fn clone(&self) -> Self {
        Self { level: Arc::clone(&self.level), name: self.name.clone(), codec: self.codec }
    }
}

pub(in crate::cached) struct Link<K, V> {
    pub(in crate::cached) guarded: Guarded,
    name: Vec<u8>,
    pub(in crate::cached) codec: Codec<K, V>,
    /// What invalidates all that the cache keeps.
    pub(in crate::cached) everything: InvalidationKey,
    /// Who this is among those who share the level.
    pub(in crate::cached) origin: u64,
    pub(in crate::cached) pending: Pending,
    /// With which numbers of the level what was invalidated, here or by others who were heard: a level that does not know has lost
    /// it, and nothing that is older is used.
    pub(in crate::cached) known: Generations,
    jobs: mpsc::Sender<Job<K, V>>,
    pub(in crate::cached) queue: tokio::sync::Mutex<mpsc::Receiver<Job<K, V>>>,
    pub(in crate::cached) is_subscribed: AtomicBool,
    /// Whether it is known by now if invalidations are heard.
    pub(in crate::cached) has_tried: watch::Sender<bool>,
    pub(in crate::cached) background: Mutex<Option<JoinHandle<()>>>,
    pub(in crate::cached) counts: LinkCounts,
}

#[derive(Debug)]
pub(in crate::cached) struct LinkCounts {
    pub(in crate::cached) hits: Count,
    pub(in crate::cached) misses: Count,
    pub(in crate::cached) hit: Counter,
    pub(in crate::cached) miss: Counter,
    pub(in crate::cached) unknown: Counter,
    puts: Count,
    put: Counter,
    dropped_puts: Count,
    dropped: Counter,
    failed: Counter,
    pub(in crate::cached) heard: Count,
    pub(in crate::cached) lease_waits: Count,
}

/// What is written when there is time.
pub(in crate::cached) enum Job<K, V> {
    Put {
        key: K,
        slot: Arc<Slot<V>>,
        generation: Generation,
    },
    /// Puts nothing in the place of a value.
    Drop {
        key: K,
    },
    Release {
        key: Vec<u8>,
        token: u64,
    },
}

/// How many jobs wait at most; more values are not put.
const QUEUE: usize = 1024;
/// How long it may take until invalidations are heard.
pub(in crate::cached) const PATIENCE: Duration = Duration::from_secs(1);

impl<K, V> Link<K, V> {
    pub(in crate::cached) fn new(settings: &LevelSettings<K, V>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let name = settings.name.as_bytes();
        let read = |outcome| Counter::new("mcp_patterns_cache_second_level_total", &[("outcome", outcome)]);
        let put = |outcome| Counter::new("mcp_patterns_cache_second_level_puts_total", &[("outcome", outcome)]);
        Self {
            guarded: Guarded::new(Arc::clone(&settings.level)),
            name: [&(name.len() as u64).to_le_bytes(), name].concat(),
            codec: settings.codec,
            everything: InvalidationKey::new(Target::Group, hash([b"everything", b"", name])),
            origin: fastrand::u64(..),
            pending: Pending::default(),
            known: Generations::default(),
            jobs,
            queue: tokio::sync::Mutex::new(queue),
            is_subscribed: AtomicBool::new(false),
            has_tried: watch::Sender::new(false),
            background: Mutex::default(),
            counts: LinkCounts {
                hits: Count::default(),
                misses: Count::default(),
                hit: read("hit"),
                miss: read("miss"),
                unknown: read("unknown"),
                puts: Count::default(),
                put: put("put"),
                dropped_puts: Count::default(),
                dropped: put("dropped"),
                failed: put("failed"),
                heard: Count::default(),
                lease_waits: Count::default(),
            },
        }
    }

    /// The name of a key in the level.
    pub(in crate::cached) fn key(&self, key: &K) -> Option<Vec<u8>> {
        let mut bytes = self.name.clone();
        (self.codec.key)(key, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Reads what the level has, with what is known here of the entry's invalidations. `None` where it does not answer, or does not
    /// know of one of them.
    pub(in crate::cached) async fn read(&self, limit: Duration, key: &[u8], keys: &[InvalidationKey]) -> Option<Read> {
        let keys = || [InvalidationKey::ALL, self.everything].into_iter().chain(keys.iter().copied());
        let numbers: Vec<_> = keys().map(InvalidationKey::number).collect();
        // What is not told yet has a stamp of its own already: a load that began before is not kept.
        if self.pending.has_any(&numbers) {
            return None;
        }
        // Before it is asked: what is heard meanwhile, the answer need not know.
        let known = self.known.latest_known(keys());
        let read = self.guarded.get(limit, key, &numbers).await?;
        if known <= read.invalidated {
            return Some(read);
        }
        // The level knew it, and does not any more.
        self.guarded.raise(limit, key, &numbers, known).await?;
        self.guarded.get(limit, key, &numbers).await.filter(|read| known <= read.invalidated)
    }

    /// How long an entry may be kept without asking the level.
    pub(in crate::cached) fn trust<E>(&self, settings: &Settings<K, V, E>) -> Duration {
        let subscribed = settings.first_level_ttl;
        if self.is_subscribed.load(Ordering::SeqCst) { subscribed } else { settings.unsubscribed_ttl.min(subscribed) }
    }

    /// Notes what the level has to be told. Until it knows, nothing that these keys invalidate is read from it.
    pub(in crate::cached) fn tell(&self, keys: &[InvalidationKey]) {
        self.pending.note(keys.iter().map(|key| key.number()));
    }

    pub(in crate::cached) fn tell_everything(&self) {
        self.tell(&[self.everything]);
    }

    /// Waits until the level knows all that it was to be told: for no longer than one step takes, and not at all while the
    /// level is left alone.
    pub(in crate::cached) async fn told(&self, limit: Duration) {
        let _ = timeout(limit, self.pending.told(|| !self.guarded.can_write())).await;
    }

    /// Waits until invalidations are heard, or it is known that they are not: what is loaded before is not kept, since one may
    /// have been missed.
    pub(in crate::cached) async fn settled(&self) {
        let _ = timeout(PATIENCE, self.has_tried.subscribe().wait_for(|has_tried| *has_tried)).await;
    }

    pub(in crate::cached) fn queue(&self, job: Job<K, V>) {
        let is_put = matches!(job, Job::Put { .. });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(_) if is_put => {
                self.counts.dropped_puts.add();
                self.counts.dropped.increment();
            }
            // The lease ends by itself.
            Err(_) => {}
        }
    }

    /// A value as it is put, if it is of any use still.
    pub(in crate::cached) fn put(&self, key: &K, slot: &Slot<V>, generation: Generation) -> Option<Put> {
        let mut life = slot.life();
        life.age = slot.age(Instant::now());
        let ttl = life.end.checked_sub(life.age).filter(|ttl| *ttl >= Duration::from_millis(1))?;
        let payload = (self.codec.encode)(&slot.value)?;
        let value = Envelope { life, generation, payload: &payload }.encode();
        Some(Put::new(self.key(key)?, value, ttl))
    }

    /// Nothing, in the place of a value.
    pub(in crate::cached) fn put_nothing(&self, key: &K) -> Option<Put> {
        Some(Put::new(self.key(key)?, Vec::new(), Duration::from_millis(1)))
    }

    /// Writes values, all in one step.
    pub(in crate::cached) async fn write(&self, limit: Duration, puts: &[Put]) {
        let is_put = puts.is_empty() || self.guarded.put(limit, puts).await.is_some();
        for _ in puts.iter().filter(|put| !put.value.is_empty()) {
            if is_put {
                self.counts.puts.add();
                self.counts.put.increment();
            } else {
                self.counts.failed.increment();
            }
        }
    }

    pub(in crate::cached) fn stats(&self) -> SecondLevelStats {
        SecondLevelStats {
            hits: self.counts.hits.get(),
            misses: self.counts.misses.get(),
            failures: self.guarded.failures.get(),
            skipped: self.guarded.skipped.get(),
            is_open: self.guarded.is_open(),
            puts: self.counts.puts.get(),
            dropped_puts: self.counts.dropped_puts.get(),
            untold_domains: self.pending.len(),
            invalidations_heard: self.counts.heard.get(),
            is_subscribed: self.is_subscribed.load(Ordering::SeqCst),
            lease_waits: self.counts.lease_waits.get(),
        }
    }
}

impl<K, V> fmt::Debug for LevelSettings<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelSettings").field("name", &self.name).finish_non_exhaustive()
    }
}
