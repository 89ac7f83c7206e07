//! What ties a cache to its second level: names, what waits to be told or written, and what is counted.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::envelope::Envelope;
use super::generations::Generations;
use super::guarded::Guarded;
use super::invalidation_key::{InvalidationKey, Target, hash};
use super::level::{Generation, Put, Read, SecondLevel};
use super::pending::Pending;
use super::settings::Settings;
use super::stats::SecondLevelStats;
use super::store::Slot;
use crate::telemetry::Count;
use crate::telemetry::Counter;

/// How keys and values are written for a second level.
pub(super) struct Codec<K, V> {
    pub(super) key: fn(&K, &mut dyn std::io::Write) -> std::io::Result<()>,
    pub(super) encode: fn(&V) -> Option<Vec<u8>>,
    pub(super) decode: fn(&[u8]) -> Option<V>,
}

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Codec<K, V> {}

/// What a cache is told of its second level.
pub(super) struct LevelSettings<K, V> {
    pub(super) level: Arc<dyn SecondLevel>,
    /// Which of the caches that share the level this is.
    pub(super) name: String,
    pub(super) codec: Codec<K, V>,
}

impl<K, V> Clone for LevelSettings<K, V> {
    fn clone(&self) -> Self {
        Self { level: Arc::clone(&self.level), name: self.name.clone(), codec: self.codec }
    }
}

pub(super) struct Link<K, V> {
    pub(super) guarded: Guarded,
    name: Vec<u8>,
    pub(super) codec: Codec<K, V>,
    /// What invalidates all that the cache keeps.
    pub(super) everything: InvalidationKey,
    /// Who this is among those who share the level.
    pub(super) origin: u64,
    pub(super) pending: Pending,
    /// With which numbers of the level what was invalidated, here or by others who were heard: a level that does not know has lost
    /// it, and nothing that is older is used.
    pub(super) known: Generations,
    jobs: mpsc::Sender<Job<K, V>>,
    pub(super) queue: tokio::sync::Mutex<mpsc::Receiver<Job<K, V>>>,
    pub(super) is_subscribed: AtomicBool,
    /// Whether it is known by now if invalidations are heard.
    pub(super) has_tried: watch::Sender<bool>,
    pub(super) background: Mutex<Option<JoinHandle<()>>>,
    pub(super) counts: LinkCounts,
}

#[derive(Debug)]
pub(super) struct LinkCounts {
    pub(super) hits: Count,
    pub(super) misses: Count,
    pub(super) hit: Counter,
    pub(super) miss: Counter,
    pub(super) unknown: Counter,
    puts: Count,
    put: Counter,
    dropped_puts: Count,
    dropped: Counter,
    failed: Counter,
    pub(super) heard: Count,
    pub(super) lease_waits: Count,
}

/// What is written when there is time.
pub(super) enum Job<K, V> {
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
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

impl<K, V> Link<K, V> {
    pub(super) fn new(settings: &LevelSettings<K, V>) -> Self {
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
    pub(super) fn key(&self, key: &K) -> Option<Vec<u8>> {
        let mut bytes = self.name.clone();
        (self.codec.key)(key, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Reads what the level has, with what is known here of the entry's invalidations. `None` where it does not answer, or does not
    /// know of one of them.
    pub(super) async fn read(&self, limit: Duration, key: &[u8], keys: &[InvalidationKey]) -> Option<Read> {
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
    pub(super) fn trust<E>(&self, settings: &Settings<K, V, E>) -> Duration {
        let subscribed = settings.first_level_ttl;
        if self.is_subscribed.load(Ordering::SeqCst) { subscribed } else { settings.unsubscribed_ttl.min(subscribed) }
    }

    /// Notes what the level has to be told. Until it knows, nothing that these keys invalidate is read from it.
    pub(super) fn tell(&self, keys: &[InvalidationKey]) {
        self.pending.note(keys.iter().map(|key| key.number()));
    }

    pub(super) fn tell_everything(&self) {
        self.tell(&[self.everything]);
    }

    /// Waits until the level knows all that it was to be told: for no longer than one step takes, and not at all while the
    /// level is left alone.
    pub(super) async fn told(&self, limit: Duration) {
        let _ = timeout(limit, self.pending.told(|| !self.guarded.can_write())).await;
    }

    /// Waits until invalidations are heard, or it is known that they are not: what is loaded before is not kept, since one may
    /// have been missed.
    pub(super) async fn settled(&self) {
        let _ = timeout(PATIENCE, self.has_tried.subscribe().wait_for(|has_tried| *has_tried)).await;
    }

    pub(super) fn queue(&self, job: Job<K, V>) {
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
    pub(super) fn put(&self, key: &K, slot: &Slot<V>, generation: Generation) -> Option<Put> {
        let mut life = slot.life();
        life.age = slot.age(Instant::now());
        let ttl = life.end.checked_sub(life.age).filter(|ttl| *ttl >= Duration::from_millis(1))?;
        let payload = (self.codec.encode)(&slot.value)?;
        let value = Envelope { life, generation, payload: &payload }.encode();
        Some(Put::new(self.key(key)?, value, ttl))
    }

    /// Nothing, in the place of a value.
    pub(super) fn put_nothing(&self, key: &K) -> Option<Put> {
        Some(Put::new(self.key(key)?, Vec::new(), Duration::from_millis(1)))
    }

    /// Writes values, all in one step.
    pub(super) async fn write(&self, limit: Duration, puts: &[Put]) {
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

    pub(super) fn stats(&self) -> SecondLevelStats {
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
