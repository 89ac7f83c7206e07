//! What ties a cache to its second level: names, generations, and the work in the background.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join3, select};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::domain::domain;
use super::envelope::Envelope;
use super::error::LoadError;
use super::generations::SHARED;
use super::guarded::Guarded;
use super::level::{Put, SecondLevel};
use super::settings::Settings;
use super::shared::{Shared, ended};
use super::stats::{Count, SecondLevelStats};
use super::store::Slot;
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
    /// The domain of all that the cache keeps.
    everything: u32,
    /// Who this is among those who share the level.
    origin: u64,
    pending: Mutex<Pending>,
    is_pending: Notify,
    is_told: Notify,
    jobs: mpsc::Sender<Job<K, V>>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Job<K, V>>>,
    is_subscribed: AtomicBool,
    /// Whether it is known by now if invalidations are heard.
    has_tried: watch::Sender<bool>,
    background: Mutex<Option<JoinHandle<()>>>,
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
    dropped_puts: Count,
    heard: Count,
    pub(super) lease_waits: Count,
}

/// Domains that the level does not know to be invalidated yet.
#[derive(Default)]
struct Pending {
    waiting: BTreeSet<u32>,
    sending: BTreeSet<u32>,
}

/// What is written when there is time.
pub(super) enum Job<K, V> {
    Put {
        key: K,
        slot: Arc<Slot<V>>,
        generations: Vec<u64>,
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
/// How many are written in one step.
const BATCH: usize = 64;
/// How long it may take until invalidations are heard.
const PATIENCE: Duration = Duration::from_secs(1);

impl<K, V> Link<K, V> {
    pub(super) fn new(settings: &LevelSettings<K, V>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let name = settings.name.as_bytes();
        let counter = |outcome| Counter::new("mcp_patterns_cache_second_level_total", &[("outcome", outcome)]);
        Self {
            guarded: Guarded::new(Arc::clone(&settings.level)),
            name: [&(name.len() as u64).to_le_bytes(), name].concat(),
            codec: settings.codec,
            everything: index(domain([b"everything", b"", name])),
            origin: fastrand::u64(..),
            pending: Mutex::default(),
            is_pending: Notify::new(),
            is_told: Notify::new(),
            jobs,
            queue: tokio::sync::Mutex::new(queue),
            is_subscribed: AtomicBool::new(false),
            has_tried: watch::Sender::new(false),
            background: Mutex::default(),
            counts: LinkCounts {
                hits: Count::default(),
                misses: Count::default(),
                hit: counter("hit"),
                miss: counter("miss"),
                unknown: counter("unknown"),
                puts: Count::default(),
                dropped_puts: Count::default(),
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

    /// The domains of an entry in the level.
    pub(super) fn domains(&self, domains: &[u64]) -> Vec<u32> {
        [self.everything].into_iter().chain(domains.iter().map(|domain| index(*domain))).collect()
    }

    /// How long an entry may be kept without asking the level.
    pub(super) fn trust<E>(&self, settings: &Settings<K, V, E>) -> Duration {
        if self.is_subscribed.load(Ordering::SeqCst) { settings.first_level_ttl } else { settings.unsubscribed_ttl }
    }

    /// Notes what the level has to be told. Until it knows, nothing in these domains is read from it.
    pub(super) fn tell(&self, domains: &[u64]) {
        self.lock().waiting.extend(domains.iter().map(|domain| index(*domain)));
    }

    pub(super) fn tell_everything(&self) {
        self.lock().waiting.insert(self.everything);
    }

    /// Says whether one of `domains` is invalidated here and not there yet.
    pub(super) fn is_untold(&self, domains: &[u32]) -> bool {
        let pending = self.lock();
        domains.iter().any(|domain| pending.waiting.contains(domain) || pending.sending.contains(domain))
    }

    /// Waits until the level knows all that it was to be told, for no longer than one step takes.
    pub(super) async fn told(&self, limit: Duration) {
        let told = async {
            loop {
                let mut is_told = pin!(self.is_told.notified());
                is_told.as_mut().enable();
                if self.lock().is_empty() || !self.guarded.can_write() {
                    return;
                }
                is_told.await;
            }
        };
        let _ = timeout(limit, told).await;
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
            Err(_) if is_put => self.counts.dropped_puts.add(),
            // The lease ends by itself.
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> SecondLevelStats {
        let pending = self.lock();
        SecondLevelStats {
            hits: self.counts.hits.get(),
            misses: self.counts.misses.get(),
            failures: self.guarded.failures.get(),
            skipped: self.guarded.skipped.get(),
            is_open: self.guarded.is_open(),
            puts: self.counts.puts.get(),
            dropped_puts: self.counts.dropped_puts.get(),
            untold_domains: pending.waiting.union(&pending.sending).count(),
            invalidations_heard: self.counts.heard.get(),
            is_subscribed: self.is_subscribed.load(Ordering::SeqCst),
            lease_waits: self.counts.lease_waits.get(),
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_empty()
    }
}

/// Which of the generations is that of a domain.
fn index(domain: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "smaller than a number of 32 bits")]
    let index = (domain % u64::from(SHARED)) as u32;
    index
}

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Invalidates `domains` here at once, and everywhere as soon as can be.
    pub(super) fn invalidate(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>, domains: &[u64]) {
        // First the note, then the deed: who sees the new generation must not read from the level what it does not know yet.
        if let Some(link) = &self.link {
            link.tell(domains);
        }
        domains.iter().for_each(|domain| self.generations.advance(*domain));
        self.tell_the_level(settings);
    }

    pub(super) fn invalidate_everything(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        if let Some(link) = &self.link {
            link.tell_everything();
        }
        self.generations.advance_all();
        self.store.clear();
        self.tell_the_level(settings);
    }

    fn tell_the_level(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        if let Some(link) = &self.link {
            self.start(settings);
            link.is_pending.notify_one();
        }
    }

    /// Starts the work in the background, if there is a second level and a runtime, and it does not run.
    pub(super) fn start(self: &Arc<Self>, settings: &Arc<Settings<K, V, E>>) {
        let Some(link) = &self.link else { return };
        let mut background = link.background.lock().unwrap_or_else(PoisonError::into_inner);
        if background.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, settings, alive) = (Arc::clone(self), Arc::clone(settings), self.alive());
        *background = Some(runtime.spawn(async move {
            let work = pin!(join3(shared.tell_all(&settings), shared.write_all(&settings), shared.listen()));
            select(work, pin!(ended(alive))).await;
            // What this replica has invalidated, the others should know.
            shared.tell_once(&settings).await;
        }));
    }

    /// Tells the level what is invalidated, again and again until it knows.
    async fn tell_all(&self, settings: &Settings<K, V, E>) {
        let Some(link) = &self.link else { return };
        loop {
            let mut pause = Duration::from_millis(100);
            while !self.tell_once(settings).await {
                sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(1));
            }
            link.is_pending.notified().await;
        }
    }

    async fn tell_once(&self, settings: &Settings<K, V, E>) -> bool {
        let Some(link) = &self.link else { return true };
        let domains: Vec<u32> = {
            let mut pending = link.lock();
            let Pending { waiting, sending } = &mut *pending;
            sending.append(waiting);
            sending.iter().copied().collect()
        };
        if domains.is_empty() {
            return true;
        }
        let is_told = link.guarded.advance(settings.second_level_timeout, link.origin, &domains).await.is_some();
        let mut pending = link.lock();
        if is_told {
            pending.sending.clear();
            let is_all = pending.is_empty();
            drop(pending);
            link.is_told.notify_waiters();
            return is_all;
        }
        false
    }

    /// Writes what was loaded, in batches.
    async fn write_all(&self, settings: &Settings<K, V, E>) {
        let Some(link) = &self.link else { return };
        let mut queue = link.queue.lock().await;
        let mut jobs = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut jobs, BATCH).await > 0 {
            let (mut puts, mut releases) = (Vec::new(), Vec::new());
            for job in jobs.drain(..) {
                match job {
                    Job::Put { key, slot, generations } => puts.extend(link.put(&key, &slot, generations)),
                    Job::Drop { key } => puts.extend(link.put_nothing(&key)),
                    Job::Release { key, token } => releases.push((key, token)),
                }
            }
            let limit = settings.second_level_timeout;
            if !puts.is_empty() && link.guarded.put(limit, &puts).await.is_some() {
                puts.iter().filter(|put| !put.value.is_empty()).for_each(|_| link.counts.puts.add());
            }
            for (key, token) in releases {
                link.guarded.release(limit, &key, token).await;
            }
        }
    }

    /// Hears of what other replicas invalidate, and trusts its own memory only while it does.
    async fn listen(&self) {
        let Some(link) = &self.link else { return };
        let mut pause = FIRST_PAUSE;
        const FIRST_PAUSE: Duration = Duration::from_millis(50);
        loop {
            let subscription = link.guarded.subscribe(PATIENCE).await;
            if let Some(Some(_)) = subscription {
                // Whatever was said before is not known.
                self.generations.advance_all();
                link.is_subscribed.store(true, Ordering::SeqCst);
            }
            link.has_tried.send_replace(true);
            let Some(subscription) = subscription else { return };
            if let Some(mut subscription) = subscription {
                pause = FIRST_PAUSE;
                while let Some(heard) = subscription.next().await {
                    if heard.origin != link.origin {
                        link.counts.heard.add();
                        self.hear(link, &heard.domains);
                    }
                }
                link.is_subscribed.store(false, Ordering::SeqCst);
                tracing::warn!("the cache does not hear of other replicas' invalidations until it is connected again");
            }
            sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(1));
        }
    }

    fn hear(&self, link: &Link<K, V>, domains: &[u32]) {
        for domain in domains {
            if *domain == link.everything {
                self.generations.advance_all();
            }
            self.generations.advance(u64::from(*domain));
        }
    }
}

impl<K, V> Link<K, V> {
    /// A value as it is put, if it is of any use still.
    fn put(&self, key: &K, slot: &Slot<V>, generations: Vec<u64>) -> Option<Put> {
        let mut life = slot.life();
        life.age = slot.age(Instant::now());
        let ttl = life.end.checked_sub(life.age).filter(|ttl| *ttl >= Duration::from_millis(1))?;
        let payload = (self.codec.encode)(&slot.value)?;
        let value = Envelope { life, generations, payload: &payload }.encode();
        Some(Put::new(self.key(key)?, value, ttl))
    }

    fn put_nothing(&self, key: &K) -> Option<Put> {
        Some(Put::new(self.key(key)?, Vec::new(), Duration::from_millis(1)))
    }
}

impl<K, V> fmt::Debug for LevelSettings<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelSettings").field("name", &self.name).finish_non_exhaustive()
    }
}
