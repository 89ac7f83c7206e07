//! The client of a second level: the names of keys, the queues of invalidations and values, and the counters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::envelope::Envelope;
use super::outbox::Outbox;
use super::settings::{Codec, LevelSettings, Settings};
use super::stats::SecondLevelStats;
use crate::cached::first_level::entry::Entry;
use crate::cached::first_level::generations::Generations;
use crate::cached::first_level::invalidation_key::{InvalidationKey, Target, hash};
use crate::cached::second_level::resilient::ResilientLevel;
use crate::cached::second_level::{Generation, Put, Read};
use crate::telemetry::{Count, Counter};

pub(in crate::cached) struct SecondLevelClient<K, V> {
    pub(in crate::cached) level: ResilientLevel,
    name: Vec<u8>,
    pub(in crate::cached) codec: Codec<K, V>,
    /// The key that invalidates everything in the cache.
    pub(in crate::cached) everything: InvalidationKey,
    /// The number of this replica among those that share the level.
    pub(in crate::cached) origin: u64,
    pub(in crate::cached) outbox: Outbox,
    /// The numbers that the level gave to the invalidations of this replica and to those that it received: a level that does not
    /// know one of them has lost it, and nothing older is used.
    pub(in crate::cached) known: Generations,
    jobs: mpsc::Sender<Job<K, V>>,
    pub(in crate::cached) queue: tokio::sync::Mutex<mpsc::Receiver<Job<K, V>>>,
    pub(in crate::cached) is_subscribed: AtomicBool,
    /// Whether a subscription was tried, so that it is known whether invalidations are received.
    pub(in crate::cached) has_tried: watch::Sender<bool>,
    pub(in crate::cached) background: Mutex<Option<JoinHandle<()>>>,
    pub(in crate::cached) counts: ClientCounts,
}

#[derive(Debug)]
pub(in crate::cached) struct ClientCounts {
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
    pub(in crate::cached) received: Count,
    pub(in crate::cached) lease_waits: Count,
}

/// A write that waits in the queue.
pub(in crate::cached) enum Job<K, V> {
    Put {
        key: K,
        entry: Arc<Entry<V>>,
        generation: Generation,
    },
    /// Replaces a value by nothing.
    Remove {
        key: K,
    },
    Release {
        key: Vec<u8>,
        token: u64,
    },
}

/// How many jobs wait at most. A value above that is dropped.
const QUEUE: usize = 1024;
/// How long a subscription may take to begin.
pub(in crate::cached) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);

impl<K, V> SecondLevelClient<K, V> {
    pub(in crate::cached) fn new(settings: &LevelSettings<K, V>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let name = settings.name.as_bytes();
        let read = |outcome| Counter::new("mcp_patterns_cache_second_level_total", &[("outcome", outcome)]);
        let put = |outcome| Counter::new("mcp_patterns_cache_second_level_puts_total", &[("outcome", outcome)]);
        Self {
            level: ResilientLevel::new(Arc::clone(&settings.level)),
            name: [&(name.len() as u64).to_le_bytes(), name].concat(),
            codec: settings.codec,
            everything: InvalidationKey::new(Target::Group, hash([b"everything", b"", name])),
            origin: fastrand::u64(..),
            outbox: Outbox::default(),
            known: Generations::default(),
            jobs,
            queue: tokio::sync::Mutex::new(queue),
            is_subscribed: AtomicBool::new(false),
            has_tried: watch::Sender::new(false),
            background: Mutex::default(),
            counts: ClientCounts {
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
                received: Count::default(),
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

    /// Reads a value from the level, with the last invalidation of its keys. `None` where the level does not answer, or does not know
    /// an invalidation that this replica knows.
    pub(in crate::cached) async fn read(&self, limit: Duration, key: &[u8], keys: &[InvalidationKey]) -> Option<Read> {
        let keys = || [InvalidationKey::ALL, self.everything].into_iter().chain(keys.iter().copied());
        let numbers: Vec<_> = keys().map(InvalidationKey::number).collect();
        // The first level has applied a pending invalidation already: a load that began before it is not kept.
        if self.outbox.has_any(&numbers) {
            return None;
        }
        // Before the read: the reply need not contain an invalidation that arrives meanwhile.
        let known = self.known.latest_known(keys());
        let read = self.level.get(limit, key, &numbers).await?;
        if known <= read.invalidated {
            return Some(read);
        }
        // The level knew the invalidation, and has lost it.
        self.level.raise(limit, key, &numbers, known).await?;
        self.level.get(limit, key, &numbers).await.filter(|read| known <= read.invalidated)
    }

    /// How long an entry may be served without asking the level.
    pub(in crate::cached) fn trust<E>(&self, settings: &Settings<K, V, E>) -> Duration {
        let subscribed = settings.first_level_ttl;
        if self.is_subscribed.load(Ordering::SeqCst) { subscribed } else { settings.unsubscribed_ttl.min(subscribed) }
    }

    /// Notes invalidations for the level. Until it has received them, nothing that these keys invalidate is read from it.
    pub(in crate::cached) fn note(&self, keys: &[InvalidationKey]) {
        self.outbox.note(keys.iter().map(|key| key.number()));
    }

    /// Waits until the level has received all invalidations so far: for no longer than one step takes, and not at all while the
    /// breaker is open.
    pub(in crate::cached) async fn synced(&self, limit: Duration) {
        let _ = timeout(limit, self.outbox.delivered(|| !self.level.can_write())).await;
    }

    /// Waits until invalidations are received, or it is known that they are not: a value that is loaded earlier is not kept, since
    /// an invalidation may have been missed.
    pub(in crate::cached) async fn settled(&self) {
        let _ = timeout(SUBSCRIBE_TIMEOUT, self.has_tried.subscribe().wait_for(|has_tried| *has_tried)).await;
    }

    pub(in crate::cached) fn queue(&self, job: Job<K, V>) {
        let is_put = matches!(job, Job::Put { .. });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(_) if is_put => {
                self.counts.dropped_puts.add();
                self.counts.dropped.increment();
            }
            // The lease expires by itself.
            Err(_) => {}
        }
    }

    /// The value as it is put into the level, unless it has expired.
    pub(in crate::cached) fn put(&self, key: &K, entry: &Entry<V>, generation: Generation) -> Option<Put> {
        let mut lifetime = entry.lifetime();
        lifetime.age = entry.age(Instant::now());
        let ttl = lifetime.end.checked_sub(lifetime.age).filter(|ttl| *ttl >= Duration::from_millis(1))?;
        let payload = (self.codec.encode)(&entry.value)?;
        let value = Envelope { lifetime, generation, payload: &payload }.encode();
        Some(Put::new(self.key(key)?, value, ttl))
    }

    /// A put that replaces a value by nothing.
    pub(in crate::cached) fn put_nothing(&self, key: &K) -> Option<Put> {
        Some(Put::new(self.key(key)?, Vec::new(), Duration::from_millis(1)))
    }

    /// Writes values, all in one step.
    pub(in crate::cached) async fn write(&self, limit: Duration, puts: &[Put]) {
        let is_put = puts.is_empty() || self.level.put(limit, puts).await.is_some();
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
            failures: self.level.failures.get(),
            skipped: self.level.skipped.get(),
            is_open: self.level.is_open(),
            puts: self.counts.puts.get(),
            dropped_puts: self.counts.dropped_puts.get(),
            pending_invalidations: self.outbox.len(),
            invalidations_received: self.counts.received.get(),
            is_subscribed: self.is_subscribed.load(Ordering::SeqCst),
            lease_waits: self.counts.lease_waits.get(),
        }
    }
}
