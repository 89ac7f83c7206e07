//! Random interleavings of reads, writes, invalidations, passing time and lost connections, against a model of how
//! stale a read may be.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::fleet::*;
use super::*;
use crate::CachedTool;
use crate::cached::{LevelError, MemoryLevel, Put, Read, SecondLevel, Subscription};

/// The messages of two replicas, recorded between them and their level.
#[derive(Default)]
struct Log {
    /// For each message, the last version of its sender, at the sender's index.
    messages: Vec<[u64; 2]>,
    /// For each replica, the last version that the level has received.
    told: [u64; 2],
    /// For each replica, the last version that it has received from the other.
    heard: [u64; 2],
    /// Whether messages to a replica get lost silently.
    is_deaf: [bool; 2],
    /// Whether the level may lose its history.
    forgets: bool,
}

/// A level that writes the log, for the replica of this number.
struct Logged<L> {
    level: L,
    at: usize,
    written: Arc<AtomicU64>,
    log: Arc<Mutex<Log>>,
}

/// Messages contain their number as an additional key, outside the range of real keys.
const FIRST: u64 = 3 << 62;

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("no panic")
}

#[async_trait]
impl<L: SecondLevel> SecondLevel for Logged<L> {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        self.level.get(key, keys).await
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        self.level.put(values).await
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        let version = self.written.load(Ordering::SeqCst);
        let number = {
            let mut log = locked(&self.log);
            let mut versions = [0; 2];
            versions[self.at] = version;
            log.messages.push(versions);
            FIRST + u64::try_from(log.messages.len() - 1).expect("few messages")
        };
        let taken = self.level.invalidate(origin, &[keys, &[number]].concat()).await?;
        let told = &mut locked(&self.log).told[self.at];
        *told = version.max(*told);
        Ok(taken)
    }

    async fn raise(&self, key: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        self.level.raise(key, keys, number).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        self.level.acquire(key, token, lease).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.level.release(key, token).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        let (log, at) = (Arc::clone(&self.log), self.at);
        let Some(subscription) = self.level.subscribe().await? else { return Ok(None) };
        // When it asks for the first message, a replica has dropped everything older; when it asks for another, it has
        // applied the last.
        let known = {
            let log = locked(&log);
            if log.forgets { 0 } else { log.told[1 - at] }
        };
        let noted = futures_util::stream::unfold((subscription, known), move |(mut subscription, known)| {
            let log = Arc::clone(&log);
            async move {
                let heard = |known: u64| {
                    let heard = &mut locked(&log).heard[at];
                    *heard = known.max(*heard);
                };
                heard(known);
                let mut message = subscription.next().await?;
                while locked(&log).is_deaf[at] {
                    message = subscription.next().await?;
                }
                let number = message.keys.iter().copied().find(|key| *key >= FIRST).expect("a number");
                let known = locked(&log).messages[usize::try_from(number - FIRST).expect("small")][1 - at];
                Some((message, (subscription, known)))
            }
        });
        Ok(Some(noted.boxed()))
    }
}

/// How stale a read may be, and how often reads were stale.
pub(in crate::cached::tests) struct Model {
    log: Arc<Mutex<Log>>,
    bounds: Bounds,
    /// The oldest version that a replica may return.
    least: [AtomicU64; 2],
    /// For each replica, the versions of the other, and since when at the latest: nothing older was stored later.
    untold: [Vec<(u64, Instant)>; 2],
    /// The same for the level.
    unheard: [Vec<(u64, Instant)>; 2],
    /// The time since which a replica is known to have no subscription.
    alone: [Option<Instant>; 2],
    pub(in crate::cached::tests) seen: Seen,
}

pub(in crate::cached::tests) struct Bounds {
    pub(in crate::cached::tests) ttl: Duration,
    pub(in crate::cached::tests) first_level_ttl: Duration,
    pub(in crate::cached::tests) unsubscribed_ttl: Duration,
    /// The time after which a write without a message is visible: the ttl.
    pub(in crate::cached::tests) untold: Duration,
    /// Whether the level may lose its history: then the guarantee holds only for replicas that sent or received the
    /// invalidation.
    pub(in crate::cached::tests) forgets: bool,
}

/// The reasons for which a replica had to see a write, and how many reads were stale within the bounds.
#[derive(Debug, Default)]
pub(in crate::cached::tests) struct Seen {
    pub(in crate::cached::tests) heard: u32,
    pub(in crate::cached::tests) unsubscribed: u32,
    pub(in crate::cached::tests) deaf: u32,
    pub(in crate::cached::tests) expired: u32,
    pub(in crate::cached::tests) stale: AtomicU64,
    pub(in crate::cached::tests) reads: AtomicU64,
}

impl Seen {
    /// Every case occurred: cached values were read, some of them stale, and writes became visible in both ways.
    pub(in crate::cached::tests) fn is_enough(&self, fleet: &Fleet) {
        println!("{} loads, {self:?}", fleet.source.loads());
        let (reads, stale) = (self.reads.load(Ordering::SeqCst), self.stale.load(Ordering::SeqCst));
        assert!(2 * fleet.source.loads() < reads && stale > 100, "{self:?}");
        assert!(self.heard > 10, "{self:?}");
    }
}

impl Bounds {
    fn set(&self, layer: CachedTool) -> CachedTool {
        layer.with_ttl(self.ttl).with_first_level_ttl(self.first_level_ttl).with_unsubscribed_ttl(self.unsubscribed_ttl)
    }
}

impl Model {
    /// Runs some steps at once, and `beside` concurrently.
    pub(in crate::cached::tests) async fn round(
        &mut self,
        chance: &mut fastrand::Rng,
        fleet: &Fleet,
        beside: impl Future<Output = ()>,
    ) {
        self.update(&fleet.replicas);
        let steps: Vec<_> = (0..chance.usize(2..7)).map(|_| fleet.draw(chance)).collect();
        tokio::join!(join_all(steps.into_iter().map(|step| self.take(step, fleet))), beside);
    }

    /// Between two rounds, when nothing runs.
    fn update(&mut self, replicas: &[Replica; 2]) {
        let now = Instant::now();
        for (at, replica) in replicas.iter().enumerate() {
            let (told, heard) = {
                let log = locked(&self.log);
                (log.told[1 - at], log.heard[at])
            };
            let is_subscribed = replica.level().is_subscribed;
            self.alone[at] = (!is_subscribed).then(|| self.alone[at].unwrap_or(now));
            let known = *self.least[at].get_mut();
            let mut learn = |version: u64, count: &mut u32| {
                let least = self.least[at].get_mut();
                if version > *least {
                    *least = version;
                    *count += 1;
                }
            };
            let written = replicas[1 - at].written.load(Ordering::SeqCst);
            if self.untold[at].last().map_or(known, |(version, _)| *version) < written {
                self.untold[at].push((written, now));
            }
            for (version, since) in &self.untold[at] {
                if now.duration_since(*since) >= self.bounds.untold {
                    learn(*version, &mut self.seen.expired);
                }
            }
            if self.unheard[at].last().map_or(known, |(version, _)| *version) < told {
                self.unheard[at].push((told, now));
            }
            for (version, since) in self.unheard[at].iter().filter(|_| !self.bounds.forgets) {
                if now.duration_since(*since) >= self.bounds.first_level_ttl {
                    learn(*version, &mut self.seen.deaf);
                }
                if self.alone[at]
                    .is_some_and(|alone| now.duration_since(alone.max(*since)) >= self.bounds.unsubscribed_ttl)
                {
                    learn(*version, &mut self.seen.unsubscribed);
                }
            }
            learn(heard, &mut self.seen.heard);
            let least = *self.least[at].get_mut();
            self.untold[at].retain(|(version, _)| *version > least);
            self.unheard[at].retain(|(version, _)| *version > least);
        }
    }

    async fn take(&self, step: Step, fleet: &Fleet) {
        sleep(step.after).await;
        let (replica, least) = (&fleet.replicas[step.at], &self.least[step.at]);
        match step.what {
            What::Read => {
                let (expected, newest) = (least.load(Ordering::SeqCst), fleet.source.version.load(Ordering::SeqCst));
                let version = replica.read().await;
                assert!(version >= expected, "replica {} read {version} after {expected}", step.at);
                self.seen.reads.fetch_add(1, Ordering::SeqCst);
                self.seen.stale.fetch_add(u64::from(version < newest), Ordering::SeqCst);
            }
            What::Write(writer) => {
                let version = replica.write_with(writer).await;
                least.fetch_max(version, Ordering::SeqCst);
            }
            What::Invalidate => replica.handle.invalidate("read", &json!({})),
            What::Break(fault) => replica.faults.set(fault),
            What::Deafen(is_deaf) => locked(&self.log).is_deaf[step.at] = is_deaf,
        }
    }
}

#[derive(Clone, Copy)]
struct Step {
    at: usize,
    after: Duration,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Read,
    /// With one of the writers.
    Write(&'static str),
    Invalidate,
    Break(u8),
    Deafen(bool),
}

/// Replicas on one level, and their reads.
pub(in crate::cached::tests) struct Fleet {
    pub(in crate::cached::tests) source: Source,
    pub(in crate::cached::tests) replicas: [Replica; 2],
    /// Whether levels also fail and hang.
    pub(in crate::cached::tests) breaks: bool,
}

impl Fleet {
    /// Draws a step, which begins while a load may run.
    fn draw(&self, chance: &mut fastrand::Rng) -> Step {
        let what = match chance.u8(0..100) {
            66..80 => What::Write(WRITERS[chance.usize(0..3)]),
            80..88 => What::Invalidate,
            88..91 if self.breaks => What::Break([FAILS, HANGS, PANICS][chance.usize(0..3)]),
            91..93 if self.breaks => What::Break(WORKS),
            93..96 => What::Deafen(true),
            96..98 => What::Deafen(false),
            _ => What::Read,
        };
        Step { at: chance.usize(0..2), after: (2 * self.source.takes).mul_f64(chance.f64()), what }
    }
}

/// A fleet, and the model of it.
pub(in crate::cached::tests) fn modelled<L: SecondLevel>(
    source: Source,
    breaks: bool,
    bounds: Bounds,
    mut level: impl FnMut() -> L,
) -> (Fleet, Model) {
    let log = Arc::new(Mutex::new(Log { forgets: bounds.forgets, ..Log::default() }));
    let replicas = [0, 1].map(|at| {
        let written = Arc::<AtomicU64>::default();
        let level = Logged { level: level(), at, written: Arc::clone(&written), log: Arc::clone(&log) };
        source.replica_that_notes(written, level, |layer| bounds.set(layer))
    });
    let model = Model {
        log,
        bounds,
        least: Default::default(),
        untold: Default::default(),
        unheard: Default::default(),
        alone: Default::default(),
        seen: Seen::default(),
    };
    (Fleet { source, replicas, breaks }, model)
}

#[tokio::test(start_paused = true)]
async fn in_ten_thousand_random_interleavings_no_read_is_staler_than_the_bound() {
    let mut chance = fastrand::Rng::with_seed(5);
    let ttl = 6 * SECOND;
    let bounds = Bounds { ttl, first_level_ttl: 3 * SECOND, unsubscribed_ttl: SECOND, untold: ttl, forgets: false };
    let level = MemoryLevel::new();
    let (fleet, mut model) = modelled(Source::default(), true, bounds, || level.clone());
    for _ in 0..10_000 {
        model.round(&mut chance, &fleet, async {}).await;
        settle().await;
        if chance.u8(0..4) == 0 {
            sleep(SECOND.mul_f64(4.0 * chance.f64())).await;
        }
    }
    model.seen.is_enough(&fleet);
    assert!(model.seen.deaf.min(model.seen.expired) > 50 && model.seen.unsubscribed > 10, "{:?}", model.seen);
}
