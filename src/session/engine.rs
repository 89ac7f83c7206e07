//! Reads and changes sessions: one round trip for a read, one for a write, and no lost update.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use turbomcp_core::RequestContext;

use super::SessionError;
use super::backend::{Backend, BackendError, Record, Write, Written};
use super::data::{self, Data, PeekError};
use super::key::Key;
use super::records::{Limit, Operation, Records};
use super::settings::Settings;
use super::touches::Touches;
use super::write_queue::{Unanswered, WriteQueues};

/// A store with its settings. Cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) records: Records,
    pub(super) write_queues: WriteQueues,
    touches: Touches,
    /// The server that the layer was put on first.
    pub(super) server: OnceLock<String>,
}

/// A session as it was found.
pub(super) struct Found {
    /// `None` where there is no record: the next write creates it.
    version: Option<u64>,
    /// From when it was found, or begins.
    ends_in: Duration,
    pub(super) data: Data,
}

/// The longest pause before a change is tried again, in milliseconds.
const MAX_PAUSE_MS: u64 = 32;

/// Larger records are not remembered, but read again before they are written.
const REMEMBERED_BYTES: usize = 8 << 10;

impl Shared {
    pub(super) fn new(backend: impl Backend) -> Self {
        Self {
            records: Records::new(backend),
            write_queues: WriteQueues::default(),
            touches: Touches::default(),
            server: OnceLock::new(),
        }
    }
}

impl Engine {
    pub(super) fn namespace(&self) -> &str {
        let server = || self.shared.server.get().map(String::as_str);
        self.settings.namespace.as_deref().or_else(server).unwrap_or_default()
    }

    /// The key of the session of a call, by its connection or its user.
    pub(super) fn key_of_call(&self, ctx: &RequestContext) -> Result<Key, SessionError> {
        Key::of_call(self.settings.mode, self.namespace(), &self.settings.identity, ctx)
    }

    /// The key of the session of a handle.
    pub(super) fn key_of_handle(&self, handle: String, ctx: &RequestContext) -> Key {
        Key::of_handle(self.namespace(), &self.settings.identity, handle, ctx)
    }

    /// Reads one value.
    pub(super) async fn peek<T: DeserializeOwned>(&self, key: &Key, name: &str) -> Result<Option<T>, SessionError> {
        let Some(record) = self.fetch(self.limit(), key).await? else { return not_there(key).map(|()| None) };
        self.touch_if_due(key, &record);
        data::peek(&record.data, name).map_err(|error| match error {
            PeekError::Value(error) => error,
            PeekError::Record(error) => unreadable(error),
        })
    }

    /// Reads everything. A session without a record is empty, but one with a handle must have a record.
    pub(super) async fn load(&self, key: &Key) -> Result<Found, SessionError> {
        let record = self.fetch(self.limit(), key).await?;
        let found = self.found(key, record.as_ref())?;
        self.use_found(key, record.as_ref());
        Ok(found)
    }

    /// Changes the session. `change` is applied to the record that the write replaces, whatever others write at the same time.
    pub(super) async fn change<R: Send>(
        &self,
        key: &Key,
        mut change: impl FnMut(&mut Data) -> Result<R, SessionError> + Send,
    ) -> Result<R, SessionError> {
        let records = &self.shared.records;
        let queue = self.shared.write_queues.of(key.id());
        let writer = queue.enter(self.settings.backend_timeout).await;
        let mut writer = writer.map_err(|Unanswered| records.unanswered())?;
        // What this process wrote last is the current record, unless the write finds another one.
        let mut known = writer.known();
        let mut is_fresh = false;
        for attempt in 0..self.settings.max_attempts {
            if known.is_none() && !is_fresh {
                known = self.fetch(Limit::Writer(&mut writer), key).await?;
                is_fresh = true;
            }
            let applied = self.found(key, known.as_ref()).and_then(|mut found| {
                let before = found.data.to_text().map_err(unreadable)?;
                let answer = change(&mut found.data)?;
                let text = self.checked(&found)?;
                Ok((answer, (text != before).then_some(text), found))
            });
            let (answer, text, found) = match applied {
                // An error, or no change, counts only for a record that was just read.
                Err(_) | Ok((_, None, _)) if !is_fresh => {
                    known = None;
                    continue;
                }
                Ok((answer, None, _)) => {
                    self.use_found(key, known.as_ref());
                    writer.remember(known.filter(is_small));
                    return Ok(answer);
                }
                Ok((answer, Some(text), found)) => (answer, text, found),
                Err(error) => {
                    if let SessionError::TooManyKeys { .. } | SessionError::TooManyBytes { .. } = error {
                        records.count(Operation::Full);
                    }
                    return Err(error);
                }
            };
            let version = new_version();
            let written = self.write(Limit::Writer(&mut writer), key, found.version, version, &text, found.ends_in);
            match written.await? {
                Written::Yes => {
                    // These times are never used: a change that changes nothing reads the record again.
                    let (expires_in, ends_in) = (self.settings.idle_timeout, found.ends_in);
                    writer.remember(Some(Record { version, data: text, expires_in, ends_in }).filter(is_small));
                    records.count(Operation::Written);
                    return Ok(answer);
                }
                Written::Conflict(current) => {
                    records.count(Operation::Conflicted);
                    (known, is_fresh) = (current, true);
                }
                Written::Full => return Err(records.no_room()),
            }
            if attempt > 0 {
                sleep(Duration::from_millis(fastrand::u64(0..=MAX_PAUSE_MS.min(1 << attempt.min(10))))).await;
                // Others may have written during the pause.
                (known, is_fresh) = (None, false);
            }
        }
        Err(SessionError::Conflict)
    }

    /// Writes the changes since `found` was read, unless another writer has changed the session in between.
    pub(super) async fn commit(&self, key: &Key, found: &Found) -> Result<(), SessionError> {
        let records = &self.shared.records;
        let text = self.checked(found).inspect_err(|_| records.count(Operation::Full))?;
        match self.write(self.limit(), key, found.version, new_version(), &text, found.ends_in).await? {
            Written::Yes => {
                records.count(Operation::Written);
                Ok(())
            }
            Written::Conflict(_) => {
                records.count(Operation::Conflicted);
                Err(SessionError::Conflict)
            }
            Written::Full => Err(records.no_room()),
        }
    }

    /// Keeps an empty session under a new handle.
    pub(super) async fn open(&self, key: &Key) -> Result<(), SessionError> {
        self.commit(key, &self.empty()).await
    }

    pub(super) async fn end(&self, key: &Key) -> Result<bool, SessionError> {
        self.shared.records.delete(self.limit(), key.id(), None).await
    }

    /// Moves the session to another key, with everything that was written before the first key is deleted. Its end stays the same.
    pub(super) async fn renew(&self, from: &Key, to: &Key) -> Result<(), SessionError> {
        let mut kept = None;
        for _ in 0..self.settings.max_attempts {
            let asked = Instant::now();
            let found = self.load(from).await?;
            let Some(version) = found.version else { return Err(SessionError::Unknown) };
            let (text, new) = (found.data.to_text().map_err(unreadable)?, new_version());
            let ends_in = found.ends_in.saturating_sub(asked.elapsed());
            // No other caller knows the new key yet.
            match self.write(self.limit(), to, kept, new, &text, ends_in).await? {
                Written::Yes => {}
                Written::Conflict(_) => return Err(SessionError::Conflict),
                Written::Full => return Err(self.shared.records.no_room()),
            }
            kept = Some(new);
            if self.shared.records.delete(self.limit(), from.id(), Some(version)).await? {
                return Ok(());
            }
        }
        self.end(to).await?;
        Err(SessionError::Conflict)
    }

    async fn fetch(&self, limit: Limit<'_, '_>, key: &Key) -> Result<Option<Record>, SessionError> {
        let record = self.shared.records.load(limit, key.id()).await?;
        self.shared.write_queues.saw(key.id(), record.as_ref());
        Ok(record)
    }

    /// Returns the limit of a step that waits in no queue.
    fn limit(&self) -> Limit<'static, 'static> {
        Limit::Timeout(self.settings.backend_timeout)
    }

    fn found(&self, key: &Key, record: Option<&Record>) -> Result<Found, SessionError> {
        let Some(record) = record else { return not_there(key).map(|()| self.empty()) };
        let data = Data::parse(&record.data).map_err(unreadable)?;
        Ok(Found { version: Some(record.version), ends_in: record.ends_in, data })
    }

    fn empty(&self) -> Found {
        let ends_in = self.settings.absolute_timeout.unwrap_or(Duration::MAX);
        Found { version: None, ends_in, data: Data::default() }
    }

    fn use_found(&self, key: &Key, record: Option<&Record>) {
        if let Some(record) = record {
            self.touch_if_due(key, record);
        }
    }

    /// Reports to the backend, in the background, that the session is in use: at most every tenth of the idle timeout.
    fn touch_if_due(&self, key: &Key, record: &Record) {
        let ttl = self.settings.idle_timeout;
        if ttl.min(record.ends_in).saturating_sub(record.expires_in) < ttl / 10 {
            return;
        }
        let Some(touch) = self.shared.touches.begin(key.id()) else { return };
        let engine = self.clone();
        tokio::spawn(async move {
            // The step itself logs a failure of the backend.
            if engine.shared.records.touch(engine.limit(), touch.id(), ttl).await.is_err() {
                tracing::debug!("the use of a session was not reported to the backend");
            }
        });
    }

    fn checked(&self, found: &Found) -> Result<String, SessionError> {
        let text = found.data.to_text().map_err(unreadable)?;
        let (bytes, max_bytes, max_keys) = (text.len(), self.settings.max_bytes, self.settings.max_keys);
        if found.data.keys().len() > max_keys {
            Err(SessionError::TooManyKeys { max_keys })
        } else if bytes > max_bytes {
            Err(SessionError::TooManyBytes { bytes, max_bytes })
        } else {
            Ok(text)
        }
    }

    async fn write(
        &self,
        limit: Limit<'_, '_>,
        key: &Key,
        expected: Option<u64>,
        version: u64,
        data: &str,
        ends_in: Duration,
    ) -> Result<Written, SessionError> {
        let opener = expected.is_none().then(|| key.opener());
        let write = Write { version, data, ttl: self.settings.idle_timeout, ends_in, opener };
        self.shared.records.write(limit, key.id(), expected, write).await
    }
}

/// A missing record is an error for a handle, and an empty session otherwise.
fn not_there(key: &Key) -> Result<(), SessionError> {
    if key.handle.is_some() { Err(SessionError::Unknown) } else { Ok(()) }
}

fn is_small(record: &Record) -> bool {
    record.data.len() <= REMEMBERED_BYTES
}

/// Makes a number that no other write has: the keys of `RandomState` come from the system's randomness, each pair once.
fn new_version() -> u64 {
    const BITS: u64 = (1 << 63) - 1;
    (RandomState::new().hash_one(()) & BITS).max(1)
}

/// The error of a record that this crate did not write.
fn unreadable(error: serde_json::Error) -> SessionError {
    tracing::error!(%error, "the record of a session cannot be read");
    SessionError::Unavailable(BackendError::new(error))
}
