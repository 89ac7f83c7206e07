//! Backends that fail now and then: before a step, or after it, so that it is not known whether it was taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcp_patterns::cached::{LevelError, MemoryLevel, Put, Read, SecondLevel, Subscription};
use mcp_patterns::idempotency::Resolved;
use mcp_patterns::idempotent::{Claim, Claimed, MemoryStore, Owner, Store, StoreError, StoreFuture};

/// A backend of which each fifth step fails, half of them after they were taken.
#[derive(Clone)]
pub(super) struct Faulty<B> {
    backend: B,
    steps: Arc<AtomicU64>,
}

impl<B> Faulty<B> {
    pub(super) fn new(backend: B) -> Self {
        Self { backend, steps: Arc::default() }
    }

    /// Whether this step fails before it is taken, and whether after.
    fn fails(&self) -> (bool, bool) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        (step % 10 == 4, step % 10 == 9)
    }
}

/// Takes a step, unless it is one that fails.
macro_rules! step {
    ($self:ident, $error:expr, $step:expr) => {
        Box::pin(async move {
            let (before, after) = $self.fails();
            if before {
                return Err($error);
            }
            let taken = $step.await;
            if after { Err($error) } else { taken }
        })
    };
}

#[async_trait::async_trait]
impl SecondLevel for Faulty<MemoryLevel> {
    async fn get(&self, key: &[u8], keys: &[u64]) -> Result<Read, LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.get(key, keys)).await
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.put(values)).await
    }

    async fn invalidate(&self, origin: u64, keys: &[u64]) -> Result<u64, LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.invalidate(origin, keys)).await
    }

    async fn raise(&self, key: &[u8], keys: &[u64], number: u64) -> Result<(), LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.raise(key, keys, number)).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.acquire(key, token, lease)).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        step!(self, LevelError::new("it fails"), self.backend.release(key, token)).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        self.backend.subscribe().await
    }
}

impl Store for Faulty<MemoryStore> {
    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        step!(self, StoreError::unavailable("it fails"), self.backend.claim(claim))
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        step!(self, StoreError::unavailable("it fails"), self.backend.renew(owner, lease))
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        step!(self, StoreError::unavailable("it fails"), self.backend.complete(owner, record, ttl))
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        step!(self, StoreError::unavailable("it fails"), self.backend.release(owner))
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        step!(self, StoreError::unavailable("it fails"), self.backend.abandon(owner))
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        step!(self, StoreError::unavailable("it fails"), self.backend.resolve(id, record, ttl))
    }
}
