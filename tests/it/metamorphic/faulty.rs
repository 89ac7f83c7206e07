//! Backends that fail now and then: before a step, or after it, so that it is not known whether it was taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mcp_patterns::cached::{LevelError, MemoryLevel, Put, Read, SecondLevel, Subscription};
use mcp_patterns::idempotency_keys::Resolved;
use mcp_patterns::idempotent::{Backend, BackendError, Claim, Claimed, MemoryBackend, Owner};

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

#[async_trait]
impl Backend for Faulty<MemoryBackend> {
    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.claim(claim)).await
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.renew(owner, lease)).await
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.complete(owner, record, ttl)).await
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.release(owner)).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.abandon(owner)).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        step!(self, BackendError::unavailable("it fails"), self.backend.resolve(id, record, ttl)).await
    }
}
