use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::table::Table;
use super::backend::{Backend, BackendError, Claim, Claimed, Owner};
use crate::ConfigError;
use crate::clock::later;
use crate::idempotency_keys::{AmbiguousCalls, Page, Resolved};
use crate::shares::Room;

mod table;

/// Keeps claims and answers in this process. Clones share them.
///
/// They end with the process: after a restart, it is not known that a call which was running is ambiguous. Where that matters, or where
/// there are several replicas, use another backend.
///
/// It never drops a claim, nor an answer before its time. Callers share the room instead: a caller may hold as much as is free, so one
/// alone fills half of the backend, and each further one up to half of the rest. Callers who are not authenticated are one caller, and
/// their connections share the room of that caller by the same rule. A call for which there is no room is refused with
/// `server_overloaded`. An answer for which there is no room is not kept, but its call is not made again.
#[derive(Clone)]
#[must_use]
pub struct MemoryBackend {
    table: Arc<Mutex<Table>>,
}

const MAX: Room = Room { entries: 100_000, bytes: 256 << 20 };

impl MemoryBackend {
    /// Creates a backend for up to 100,000 claims and answers of 256 MiB.
    pub fn new() -> Self {
        Self { table: Arc::new(Mutex::new(Table::new(MAX))) }
    }

    /// Bounds the number of claims and answers together, of all callers. It must be greater than zero. Default: 100,000.
    pub fn with_max_records(self, max_records: usize) -> Self {
        self.table().shares.max.entries = max_records;
        self
    }

    /// Bounds the bytes of claims and answers together, of all callers. A claim takes 2.5 KiB, which include the first 2 KiB of its
    /// answer. It must be greater than zero. Default: 256 MiB.
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        self.table().shares.max.bytes = max_bytes;
        self
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn check(&self) -> Result<(), ConfigError> {
        let max = self.table().shares.max;
        ConfigError::check_positive("MemoryBackend", "with_max_records", max.entries)?;
        ConfigError::check_positive("MemoryBackend", "with_max_bytes", max.bytes)
    }

    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        self.table().claim(&claim, Instant::now())
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        Ok(self.table().renew(owner, lease, Instant::now()))
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        self.table().complete(owner, record, later(Instant::now(), ttl))
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        Ok(self.table().release(owner))
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        Ok(self.table().abandon(owner, Instant::now()))
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        self.table().resolve(id, record, Instant::now(), ttl)
    }

    async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        Ok(self.table().list(&page, Instant::now()))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        f.debug_struct("MemoryBackend")
            .field("records", &table.len())
            .field("max_records", &table.shares.max.entries)
            .field("max_bytes", &table.shares.max.bytes)
            .finish()
    }
}
