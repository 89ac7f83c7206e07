use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, BackendFuture, Record, Write, Written};
use crate::clock::later;
use crate::telemetry::Counter;

/// Keeps sessions in this process. Clones share them.
///
/// They end with the process, and another replica does not know them. Where there is no room for a new session, the one that was
/// used least recently is dropped, with a warning.
#[derive(Clone)]
#[must_use]
pub struct MemoryBackend {
    table: Arc<Mutex<Table>>,
}

const MAX_SESSIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// How many expired sessions a new one clears away, so that they go faster than new ones come.
const CLEARED: usize = 2;

struct Table {
    max_sessions: NonZeroUsize,
    entries: HashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    /// By when they were last used, those first that were not used for the longest time.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

struct Entry {
    version: u64,
    data: Arc<str>,
    expires_at: Instant,
    used: u64,
}

impl MemoryBackend {
    /// Makes an empty one, for up to 10,000 sessions.
    pub fn new() -> Self {
        let table = Table { max_sessions: MAX_SESSIONS, entries: HashMap::default(), by_use: BTreeMap::new(), uses: 0 };
        Self { table: Arc::new(Mutex::new(table)) }
    }

    /// Bounds the number of sessions.
    pub fn with_max_sessions(self, max_sessions: NonZeroUsize) -> Self {
        self.table().max_sessions = max_sessions;
        self
    }

    // No step leaves the table half changed, so one that panicked spoils nothing.
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
        let entry = self.entries.get_mut(id)?;
        self.uses += 1;
        if let Some(id) = self.by_use.remove(&entry.used) {
            entry.used = self.uses;
            self.by_use.insert(self.uses, id);
        }
        Some(Record { version: entry.version, data: entry.data.as_ref().into(), expires_in: entry.expires_at - now })
    }

    fn create(&mut self, id: &str, write: Write<'_>, now: Instant) -> Written {
        for _ in 0..CLEARED {
            let oldest = self.by_use.first_key_value().map(|(_, id)| Arc::clone(id));
            if let Some(oldest) = oldest {
                self.forget_expired(&oldest, now);
            }
        }
        if let Some(record) = self.load(id, now) {
            return if record.version == write.version { Written::Yes } else { Written::No(Some(record)) };
        }
        while self.entries.len() >= self.max_sessions.get() {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.entries.remove(&oldest);
            tracing::warn!(max_sessions = self.max_sessions, "a session that was in use made room for a new one");
            Counter::new("mcp_patterns_session_evictions_total", &[]).increment();
        }
        self.uses += 1;
        let id: Arc<str> = id.into();
        self.by_use.insert(self.uses, Arc::clone(&id));
        let (version, data) = (write.version, write.data.into());
        self.entries.insert(id, Entry { version, data, expires_at: later(now, write.ttl), used: self.uses });
        Written::Yes
    }

    fn compare_and_swap(&mut self, id: &str, expected: u64, write: Write<'_>, now: Instant) -> Written {
        let found = self.load(id, now);
        match self.entries.get_mut(id) {
            Some(entry) if entry.version == expected || entry.version == write.version => {
                entry.version = write.version;
                entry.data = write.data.into();
                entry.expires_at = later(now, write.ttl);
                Written::Yes
            }
            _ => Written::No(found),
        }
    }

    fn touch(&mut self, id: &str, ttl: Duration, now: Instant) -> bool {
        self.forget_expired(id, now);
        self.entries.get_mut(id).map(|entry| entry.expires_at = later(now, ttl)).is_some()
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

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            self.by_use.remove(&entry.used);
        }
    }
}

impl Backend for MemoryBackend {
    fn create<'a>(&'a self, id: &'a str, write: Write<'a>) -> BackendFuture<'a, Written> {
        let written = self.table().create(id, write, Instant::now());
        Box::pin(ready(Ok(written)))
    }

    fn load<'a>(&'a self, id: &'a str) -> BackendFuture<'a, Option<Record>> {
        let record = self.table().load(id, Instant::now());
        Box::pin(ready(Ok(record)))
    }

    fn compare_and_swap<'a>(&'a self, id: &'a str, expected: u64, write: Write<'a>) -> BackendFuture<'a, Written> {
        let written = self.table().compare_and_swap(id, expected, write, Instant::now());
        Box::pin(ready(Ok(written)))
    }

    fn touch<'a>(&'a self, id: &'a str, ttl: Duration) -> BackendFuture<'a, bool> {
        let touched = self.table().touch(id, ttl, Instant::now());
        Box::pin(ready(Ok(touched)))
    }

    fn delete<'a>(&'a self, id: &'a str, expected: Option<u64>) -> BackendFuture<'a, bool> {
        let deleted = self.table().delete(id, expected, Instant::now());
        Box::pin(ready(Ok(deleted)))
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
            .field("max_sessions", &table.max_sessions)
            .finish()
    }
}
