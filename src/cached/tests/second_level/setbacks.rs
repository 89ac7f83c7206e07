//! A level that loses its last writes: a cache that sent or received an invalidation never returns an older value.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

use super::fleet::*;
use super::model::{Bounds, modelled};
use super::*;
use crate::cached::{Generation, Invalidation, LevelError, Put, Read, SecondLevel, Subscription};
use crate::testing::second_level_contract;

/// A level that can be restored to an earlier state.
#[derive(Clone)]
struct Forgetful {
    state: Arc<Mutex<State>>,
    channel: broadcast::Sender<Invalidation>,
    began: Instant,
}

#[derive(Clone, Default)]
struct State {
    last: u64,
    floor: u64,
    numbers: HashMap<u64, u64>,
    values: HashMap<Vec<u8>, (Vec<u8>, Instant)>,
    leases: HashMap<Vec<u8>, (u64, Instant)>,
}

impl State {
    fn latest(&self, keys: &[u64]) -> u64 {
        keys.iter().filter_map(|key| self.numbers.get(key)).copied().fold(self.floor, u64::max)
    }
}

impl Forgetful {
    fn new() -> Self {
        Self { state: Arc::default(), channel: broadcast::channel(1024).0, began: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn snapshot(&self) -> State {
        self.state().clone()
    }

    fn set_back(&self, to: State) {
        *self.state() = to;
    }

    /// A number that no earlier epoch has taken.
    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short test")
    }
}

#[async_trait]
impl SecondLevel for Forgetful {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        let (state, now) = (self.state(), Instant::now());
        let value = state.values.get(key).filter(|(_, until)| now < *until);
        let value = value.map(|(value, until)| (value.clone(), *until - now));
        Ok(Read::new(value, Generation::new(1, state.last), state.latest(keys)))
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        let until = |put: &Put| Instant::now() + put.ttl;
        self.state().values.extend(values.iter().map(|put| (put.key.clone(), (put.value.clone(), until(put)))));
        Ok(())
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        let mut state = self.state();
        let number = self.clock().max(state.last + 1);
        state.last = number;
        state.numbers.extend(keys.iter().map(|key| (*key, number)));
        drop(state);
        let _ = self.channel.send(Invalidation::new(origin, number, keys.to_vec()));
        Ok(number)
    }

    async fn raise(&self, _: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        let mut state = self.state();
        if state.latest(keys) < number {
            state.last = state.last.max(number) + 1;
            state.floor = state.last;
        }
        Ok(())
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        let (mut state, now) = (self.state(), Instant::now());
        let is_free = state.leases.get(key).is_none_or(|(_, until)| *until <= now);
        if is_free {
            state.leases.insert(key.to_vec(), (token, now + lease));
        }
        Ok(is_free)
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.state().leases.retain(|leased, (owner, _)| leased != key || *owner != token);
        Ok(())
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        let listening = self.channel.subscribe();
        let heard =
            stream::unfold(listening, |mut listening| async { Some((listening.recv().await.ok()?, listening)) });
        Ok(Some(heard.boxed()))
    }
}

#[tokio::test]
async fn the_forgetful_level_of_these_tests_passes_the_contract_suite() {
    let level = Forgetful::new();
    second_level_contract(|| async { level.clone() }).await;
}

/// Three replicas: the second received the writes of the first, and the third receives nothing.
async fn three(source: &Source, level: &Forgetful) -> [Replica; 3] {
    let deaf = |layer: crate::CachedTool| layer.with_unsubscribed_ttl(Duration::from_millis(1));
    let replicas = [(); 3].map(|()| source.replica(level.clone(), deaf));
    settle().await;
    replicas
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_sent_or_received_an_invalidation_reads_no_older_value_from_a_level_that_lost_it() {
    // The replica that reads first after the loss, of those that know the invalidation.
    for first in [0, 1] {
        let (source, level) = (at_once(), Forgetful::new());
        let [a, b, c] = three(&source, &level).await;
        assert_eq!(a.read().await, 0);
        sleep(SECOND).await;
        let old = level.snapshot();
        c.faults.set(HANGS);
        sleep(2 * SECOND).await;
        let written = a.write().await;
        sleep(SECOND).await;
        level.set_back(old);
        c.faults.set(WORKS);
        // Another process takes a larger number meanwhile, so that the last number proves nothing.
        level.invalidate(7, &[7]).await.expect("a number");
        sleep(10 * SECOND).await;
        assert_eq!(c.read().await, 0, "a replica without the invalidation is stale");
        let replicas = [&a, &b];
        assert_eq!(replicas[first].read_with_status().await, found(written, "miss", 0));
        sleep(SECOND).await;
        assert_eq!(replicas[1 - first].read_with_status().await, found(written, "hit", 2), "it is used again");
        sleep(40 * SECOND).await;
        assert_eq!(
            c.read_with_status().await,
            found(written, "hit", 2),
            "and current for replicas without the invalidation"
        );
        assert_eq!(source.loads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_raises_the_level_once() {
    let (source, level) = (at_once(), Forgetful::new());
    let [a, b, _] = three(&source, &level).await;
    let old = level.snapshot();
    a.write().await;
    level.set_back(old);
    for replica in [&a, &b, &a, &b] {
        for n in 0..20 {
            replica.read_of(n).await;
            sleep(Duration::from_millis(10)).await;
        }
    }
    let state = level.snapshot();
    assert!(state.floor > 0 && state.last == state.floor, "no number was taken since");
    assert_eq!(source.loads(), 20, "what is put after that stays");
}

#[tokio::test(start_paused = true)]
async fn after_random_losses_no_cache_that_sent_or_received_an_invalidation_returns_a_stale_value() {
    let mut chance = fastrand::Rng::with_seed(11);
    let ttl = 6 * SECOND;
    let bounds = Bounds { ttl, first_level_ttl: 3 * SECOND, unsubscribed_ttl: SECOND, untold: ttl, forgets: true };
    let level = Forgetful::new();
    let (fleet, mut model) = modelled(Source::default(), true, bounds, || level.clone());
    let mut snapshots = vec![level.snapshot()];
    let mut set_back = 0;
    for _ in 0..5_000 {
        let fate = (chance.u8(0..100), 2 * SECOND.mul_f64(chance.f64() / 20.0), chance.usize(..));
        let beside = async {
            sleep(fate.1).await;
            match fate.0 {
                0..10 => snapshots.push(level.snapshot()),
                10..20 => {
                    level.set_back(snapshots[fate.2 % snapshots.len()].clone());
                    set_back += 1;
                }
                _ => {}
            }
        };
        model.round(&mut chance, &fleet, beside).await;
        settle().await;
        if snapshots.len() > 3 {
            snapshots.remove(0);
        }
        if chance.u8(0..4) == 0 {
            sleep(SECOND.mul_f64(4.0 * chance.f64())).await;
        }
    }
    model.seen.is_enough(&fleet);
    assert!(set_back > 300, "{set_back} setbacks");
}
