use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::backend::{Backend, BackendError, Opener, Record, Write, Written};
use crate::ConfigError;
use crate::clock::later;
use crate::shares::{Holder, Room, Shares};

/// Keeps sessions in this process. Clones share them.
///
/// The sessions end with the process, and other replicas do not see them.
///
/// No session is dropped to make room for another. Callers share the room instead: a caller may hold as much as is free, so one
/// alone fills half of it, and each further one up to half of the rest. Callers who are not authenticated are one caller, and each
/// connection has a part of that share by the same rule. A session, or a write, for which there is no room is refused with
/// `server_overloaded`.
#[derive(Clone)]
#[must_use]
pub struct MemoryBackend {
    table: Arc<Mutex<Table>>,
}

const MAX: Room = Room { entries: 100_000, bytes: 256 << 20 };

/// The approximate size of a session without its data: its id and its entries in the tables.
const SESSION_BYTES: usize = 256;

/// How many expired sessions each new one deletes, so that they are deleted faster than new ones come.
const CLEARED: usize = 2;

struct Table {
    shares: Shares,
    entries: HashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    /// In the order of expiry.
    by_expiry: BTreeSet<(Instant, Arc<str>)>,
}

struct Entry {
    version: u64,
    data: Arc<str>,
    expires_at: Instant,
    ends_at: Instant,
    holder: Holder,
}

impl MemoryBackend {
    /// Creates an empty backend, for up to 100,000 sessions of 256 MiB together.
    pub fn new() -> Self {
        let table = Table { shares: Shares::new(MAX), entries: HashMap::default(), by_expiry: BTreeSet::new() };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Bounds the number of sessions of all callers together. Default: 100,000.
    pub fn with_max_sessions(self, max_sessions: usize) -> Self {
        self.table().shares.max.entries = max_sessions;
        self
    }

    /// Bounds the bytes of all sessions together. Each takes 256 more than its data. Default: 256 MiB.
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        self.table().shares.max.bytes = max_bytes;
        self
    }

    // Each step leaves the table consistent, also one that panics.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl MemoryBackend {
    pub(super) fn len(&self) -> usize {
        self.table().entries.len()
    }
}

impl Table {
    fn load(&mut self, id: &str, now: Instant) -> Option<Record> {
        self.forget_expired(id, now);
        let entry = self.entries.get(id)?;
        let (expires_in, ends_in) = (entry.expires_at - now, entry.ends_at - now);
        Some(Record::new(entry.version, entry.data.as_ref(), expires_in, ends_in))
    }

    fn create(&mut self, id: &str, write: Write<'_>, now: Instant) -> Written {
        for _ in 0..CLEARED {
            self.clear_expired(now);
        }
        if let Some(record) = self.load(id, now) {
            return if record.version == write.version { Written::Yes } else { Written::Conflict(Some(record)) };
        }
        let Some(holder) = self.room(write, now) else { return Written::Full };
        let (id, ends_at): (Arc<str>, _) = (id.into(), later(now, write.ends_in));
        let expires_at = later(now, write.ttl).min(ends_at);
        self.by_expiry.insert((expires_at, Arc::clone(&id)));
        self.entries.insert(id, Entry { version: write.version, data: write.data.into(), expires_at, ends_at, holder });
        Written::Yes
    }

    /// Takes room for a session, where necessary that of all expired ones.
    fn room(&mut self, write: Write<'_>, now: Instant) -> Option<Holder> {
        let Opener { caller, connection } = write.opener.unwrap_or(Opener { caller: "", connection: None });
        let room = Room { entries: 1, bytes: SESSION_BYTES + write.data.len() };
        self.shares.take(caller, connection, room).or_else(|| {
            while self.clear_expired(now) {}
            self.shares.take(caller, connection, room)
        })
    }

    fn compare_and_swap(&mut self, id: &str, expected: u64, write: Write<'_>, now: Instant) -> Written {
        let found = self.load(id, now);
        let Some(entry) = self.entries.get_mut(id) else { return Written::Conflict(None) };
        if entry.version != expected && entry.version != write.version {
            return Written::Conflict(found);
        }
        let (before, after) = (entry.data.len(), write.data.len());
        if !self.shares.grow(&entry.holder, after.saturating_sub(before)) {
            return Written::Full;
        }
        let freed = Room { entries: 0, bytes: before.saturating_sub(after) };
        self.shares.give_back(&entry.holder, freed);
        entry.version = write.version;
        entry.data = write.data.into();
        self.touch(id, write.ttl, now);
        Written::Yes
    }

    fn touch(&mut self, id: &str, ttl: Duration, now: Instant) -> bool {
        self.forget_expired(id, now);
        let Some((id, _)) = self.entries.get_key_value(id) else { return false };
        let id = Arc::clone(id);
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut entry.expires_at, later(now, ttl).min(entry.ends_at));
        let after = entry.expires_at;
        self.by_expiry.remove(&(before, Arc::clone(&id)));
        self.by_expiry.insert((after, id));
        true
    }

    fn delete(&mut self, id: &str, expected: Option<u64>, now: Instant) -> bool {
        self.forget_expired(id, now);
        let is_there =
            self.entries.get(id).is_some_and(|entry| expected.is_none_or(|version| version == entry.version));
        if is_there {
            self.remove(id);
        }
        is_there
    }

    fn forget_expired(&mut self, id: &str, now: Instant) {
        if self.entries.get(id).is_some_and(|entry| entry.expires_at <= now) {
            self.remove(id);
        }
    }

    /// Deletes the session that expired first. Returns false if none has expired.
    fn clear_expired(&mut self, now: Instant) -> bool {
        let expired = self.by_expiry.first().filter(|(expires_at, _)| *expires_at <= now);
        let Some(id) = expired.map(|(_, id)| Arc::clone(id)) else { return false };
        self.remove(&id);
        true
    }

    fn remove(&mut self, id: &str) {
        let Some((id, entry)) = self.entries.remove_entry(id) else { return };
        self.by_expiry.remove(&(entry.expires_at, id));
        self.shares.give_back(&entry.holder, Room { entries: 1, bytes: SESSION_BYTES + entry.data.len() });
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn check(&self) -> Result<(), ConfigError> {
        let max = self.table().shares.max;
        ConfigError::check_positive("MemoryBackend", "with_max_sessions", max.entries)?;
        ConfigError::check_positive("MemoryBackend", "with_max_bytes", max.bytes)
    }

    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
        Ok(self.table().create(id, write, Instant::now()))
    }

    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        Ok(self.table().load(id, Instant::now()))
    }

    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError> {
        Ok(self.table().compare_and_swap(id, expected, write, Instant::now()))
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        Ok(self.table().touch(id, ttl, Instant::now()))
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError> {
        Ok(self.table().delete(id, expected, Instant::now()))
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
            .field("sessions", &table.entries.len())
            .field("max_sessions", &table.shares.max.entries)
            .field("max_bytes", &table.shares.max.bytes)
            .finish()
    }
}
