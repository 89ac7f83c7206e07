use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Generation, Invalidation, LevelError, Put, Read, SecondLevel, Subscription};
use crate::cached::first_level::generations::Generations;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::clock::later;

/// A second level in this process: for tests, and for several caches of one process. Clones share their values: up to 64 MiB.
#[derive(Clone)]
#[must_use]
pub struct MemoryLevel {
    values: moka::sync::Cache<Vec<u8>, Kept>,
    generations: Arc<Generations>,
    leases: Arc<Mutex<Leases>>,
    channel: broadcast::Sender<Invalidation>,
}

#[derive(Clone)]
struct Kept {
    value: Arc<[u8]>,
    until: Instant,
}

/// The owner of each lease, and its end.
type Leases = HashMap<Vec<u8>, (u64, Instant)>;

impl MemoryLevel {
    /// Creates an empty one.
    pub fn new() -> Self {
        const MAX_BYTES: u64 = 64 << 20;
        /// How many invalidations a subscriber may lag behind.
        const BACKLOG: usize = 1024;
        let weigh = |key: &Vec<u8>, kept: &Kept| u32::try_from(key.len() + kept.value.len() + 200).unwrap_or(u32::MAX);
        Self {
            values: moka::sync::Cache::builder().max_capacity(MAX_BYTES).weigher(weigh).build(),
            generations: Arc::default(),
            leases: Arc::default(),
            channel: broadcast::channel(BACKLOG).0,
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(numbers: &[u64]) -> Vec<InvalidationKey> {
    numbers.iter().map(|number| InvalidationKey::from_number(*number)).collect()
}

#[async_trait]
impl SecondLevel for MemoryLevel {
    async fn get(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, LevelError> {
        let now = Instant::now();
        let value = self.values.get(key).filter(|kept| now < kept.until);
        let value = value.map(|kept| (kept.value.to_vec(), kept.until - now));
        let invalidated = self.generations.latest(&keys(invalidation_keys));
        // One epoch: it lives as long as its values.
        Ok(Read::new(value, Generation::new(1, self.generations.stamp()), invalidated))
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        let now = Instant::now();
        for put in values {
            self.values
                .insert(put.key.clone(), Kept { value: put.value.as_slice().into(), until: later(now, put.ttl) });
        }
        Ok(())
    }

    async fn invalidate(&self, origin: u64, invalidation_keys: &[u64]) -> Result<u64, LevelError> {
        let number = self.generations.invalidate(&keys(invalidation_keys));
        // An error says that there is no subscriber.
        let _ = self.channel.send(Invalidation::new(origin, number, invalidation_keys.to_vec()));
        Ok(number)
    }

    /// This level loses nothing, so the number is that of another level.
    async fn raise(&self, _: &[u8], invalidation_keys: &[u64], number: u64) -> Result<(), LevelError> {
        if self.generations.latest(&keys(invalidation_keys)) < number {
            self.generations.raise(number);
        }
        Ok(())
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        let now = Instant::now();
        let mut leases = self.leases();
        leases.retain(|_, (_, until)| now < *until);
        let is_free = !leases.contains_key(key);
        if is_free {
            leases.insert(key.to_vec(), (token, later(now, lease)));
        }
        Ok(is_free)
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        let mut leases = self.leases();
        if leases.get(key).is_some_and(|(owner, _)| *owner == token) {
            leases.remove(key);
        }
        Ok(())
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        let listening = self.channel.subscribe();
        // A subscriber that lagged behind has missed an invalidation, so its subscription ends.
        let received = stream::unfold(listening, |mut listening| async move {
            let received = listening.recv().await.ok()?;
            Some((received, listening))
        });
        Ok(Some(received.boxed()))
    }
}

impl Default for MemoryLevel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLevel").finish_non_exhaustive()
    }
}
