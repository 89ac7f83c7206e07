use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::level::{Invalidation, LevelFuture, Put, Read, SecondLevel, Subscription};
use crate::clock::later;

/// A second level in this process: for tests, and for several caches of one process. Clones share what it keeps: up to 64 MiB.
#[derive(Clone)]
#[must_use]
pub struct MemoryLevel {
    values: moka::sync::Cache<Vec<u8>, Kept>,
    state: Arc<Mutex<State>>,
    channel: broadcast::Sender<Invalidation>,
}

#[derive(Clone)]
struct Kept {
    value: Arc<[u8]>,
    until: Instant,
}

#[derive(Default)]
struct State {
    generations: HashMap<u32, u64>,
    leases: HashMap<Vec<u8>, (u64, Instant)>,
}

impl MemoryLevel {
    /// Makes an empty one.
    pub fn new() -> Self {
        const MAX_BYTES: u64 = 64 << 20;
        /// Invalidations that a subscriber may be behind by.
        const BACKLOG: usize = 1024;
        let weigh = |key: &Vec<u8>, kept: &Kept| u32::try_from(key.len() + kept.value.len() + 200).unwrap_or(u32::MAX);
        Self {
            values: moka::sync::Cache::builder().max_capacity(MAX_BYTES).weigher(weigh).build(),
            state: Arc::default(),
            channel: broadcast::channel(BACKLOG).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecondLevel for MemoryLevel {
    fn get<'a>(&'a self, key: &'a [u8], domains: &'a [u32]) -> LevelFuture<'a, Read> {
        Box::pin(async move {
            let now = Instant::now();
            let value = self.values.get(key).filter(|kept| now < kept.until);
            let value = value.map(|kept| (kept.value.to_vec(), kept.until - now));
            let state = self.lock();
            let of = |domain| state.generations.get(domain).copied().unwrap_or_default();
            Ok(Read::new(value, std::iter::once(1).chain(domains.iter().map(of)).collect()))
        })
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            let now = Instant::now();
            for put in values {
                self.values
                    .insert(put.key.clone(), Kept { value: put.value.as_slice().into(), until: later(now, put.ttl) });
            }
            Ok(())
        })
    }

    fn advance<'a>(&'a self, origin: u64, domains: &'a [u32]) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            let mut state = self.lock();
            domains.iter().for_each(|domain| *state.generations.entry(*domain).or_default() += 1);
            drop(state);
            // An error says that nobody listens.
            let _ = self.channel.send(Invalidation::new(origin, domains.to_vec()));
            Ok(())
        })
    }

    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool> {
        Box::pin(async move {
            let now = Instant::now();
            let leases = &mut self.lock().leases;
            leases.retain(|_, (_, until)| now < *until);
            let is_free = !leases.contains_key(key);
            if is_free {
                leases.insert(key.to_vec(), (token, later(now, lease)));
            }
            Ok(is_free)
        })
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            let leases = &mut self.lock().leases;
            if leases.get(key).is_some_and(|(owner, _)| *owner == token) {
                leases.remove(key);
            }
            Ok(())
        })
    }

    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>> {
        let listening = self.channel.subscribe();
        Some(Box::pin(async move {
            // One that lagged behind has missed something, so it ends.
            let heard = stream::unfold(listening, |mut listening| async move {
                let heard = listening.recv().await.ok()?;
                Some((heard, listening))
            });
            Ok(heard.boxed())
        }))
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
