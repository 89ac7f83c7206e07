//! How a session is read and changed: one round trip for a read, one for a write, and no change lost.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::HashSet;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, BackendError, BackendFuture, Record, Write, Written};
use super::data::{self, Data, PeekError};
use super::key::Key;
use super::write_queue::{Turns, Unanswered, Writer};
use super::{SessionError, SessionMode};
use crate::Identity;
use crate::telemetry::{Counter, Outage, Over, Warning};

/// A store with its settings. Cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) mode: SessionMode,
    pub(super) namespace: Option<String>,
    pub(super) identity: Identity,
    pub(super) argument: String,
    pub(super) is_optional: bool,
    pub(super) idle_timeout: Duration,
    pub(super) absolute_timeout: Option<Duration>,
    pub(super) max_bytes: usize,
    pub(super) max_keys: usize,
    pub(super) max_tries: NonZeroU32,
    pub(super) backend_timeout: Duration,
}

pub(super) struct Shared {
    backend: Box<dyn Backend>,
    pub(super) turns: Turns,
    /// The sessions whose use is being told to the backend.
    touching: Mutex<HashSet<Arc<str>>>,
    /// The server that the layer was put on first.
    pub(super) server: OnceLock<String>,
    counters: [Counter; Told::ALL.len()],
    outage: Outage,
    full: Warning,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    Read,
    Written,
    /// Written by somebody else meanwhile, and tried again.
    Conflicted,
    Full,
    Unavailable,
    Refused,
}

impl Told {
    /// In the order of the variants.
    const ALL: [&'static str; 6] = ["read", "written", "conflicted", "full", "unavailable", "refused"];
}

/// A session as it was found.
pub(super) struct Found {
    /// Without one, there is no record: it is to begin with the next write.
    version: Option<u64>,
    /// From when it was found, or begins.
    ends_in: Duration,
    pub(super) data: Data,
}

/// The longest pause before a change is tried again.
const LONGEST_PAUSE: u64 = 32;

/// Larger records are read again before they are written, instead of being remembered.
const REMEMBERED_BYTES: usize = 8 << 10;

impl Shared {
    pub(super) fn new(backend: impl Backend) -> Self {
        Self {
            backend: Box::new(backend),
            turns: Turns::default(),
            touching: Mutex::default(),
            server: OnceLock::new(),
            counters: Told::ALL
                .map(|outcome| Counter::new("mcp_patterns_session_operations_total", &[("outcome", outcome)])),
            outage: Outage::default(),
            full: Warning::default(),
        }
    }
}

impl Engine {
    pub(super) fn namespace(&self) -> &str {
        let server = || self.shared.server.get().map(String::as_str);
        self.settings.namespace.as_deref().or_else(server).unwrap_or_default()
    }

    pub(super) fn count(&self, told: Told) {
        self.shared.counters[told as usize].increment();
    }

    /// Reads one value.
    pub(super) async fn peek<T: DeserializeOwned>(&self, key: &Key, name: &str) -> Result<Option<T>, SessionError> {
        let Some(record) = self.fetch(None, key).await? else { return not_there(key).map(|()| None) };
        self.touch_if_due(key, &record);
        data::peek(&record.data, name).map_err(|error| match error {
            PeekError::Value(error) => error,
            PeekError::Record(error) => unreadable(error),
        })
    }

    /// Reads everything. A session that is not there yet is empty, but one that has to be opened has to be there.
    pub(super) async fn load(&self, key: &Key) -> Result<Found, SessionError> {
        let record = self.fetch(None, key).await?;
        let found = self.found(key, record.as_ref())?;
        self.use_found(key, record.as_ref());
        Ok(found)
    }

    /// Changes the session, whatever others do at the same time: `change` is applied to what is there when it is written.
    pub(super) async fn change<R: Send>(
        &self,
        key: &Key,
        mut change: impl FnMut(&mut Data) -> Result<R, SessionError> + Send,
    ) -> Result<R, SessionError> {
        let turn = self.shared.turns.of(key.id());
        let mut writer = turn.take(self.settings.backend_timeout).await.map_err(|Unanswered| {
            SessionError::Unavailable(self.failed(BackendError::not_taken("it answers none of those who wrote before")))
        })?;
        // What this process wrote last is what there is, unless the write finds that it is not.
        let mut known = writer.known();
        let mut is_fresh = false;
        for tries in 0..self.settings.max_tries.get() {
            if known.is_none() && !is_fresh {
                known = self.fetch(Some(&mut writer), key).await?;
                is_fresh = true;
            }
            let applied = self.found(key, known.as_ref()).and_then(|mut found| {
                let before = found.data.to_text().map_err(unreadable)?;
                let answer = change(&mut found.data)?;
                let text = self.checked(&found)?;
                Ok((answer, (text != before).then_some(text), found))
            });
            let (answer, text, found) = match applied {
                // Nothing of this is worth anything before it is known that it is not of yesterday.
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
                        self.count(Told::Full);
                    }
                    return Err(error);
                }
            };
            let version = new_version();
            let written = self.write(Some(&mut writer), key, found.version, version, &text, found.ends_in);
            match written.await? {
                Written::Yes => {
                    // Its times are never asked for: what changes nothing reads the record anew.
                    let (expires_in, ends_in) = (self.settings.idle_timeout, found.ends_in);
                    writer.remember(Some(Record { version, data: text, expires_in, ends_in }).filter(is_small));
                    self.count(Told::Written);
                    return Ok(answer);
                }
                Written::No(current) => {
                    self.count(Told::Conflicted);
                    (known, is_fresh) = (current, true);
                }
                Written::Full => return Err(self.no_room()),
            }
            if tries > 0 {
                sleep(Duration::from_millis(fastrand::u64(0..=LONGEST_PAUSE.min(1 << tries.min(10))))).await;
                // Others have written during the pause, if they are many.
                (known, is_fresh) = (None, false);
            }
        }
        Err(SessionError::Conflict)
    }

    /// Writes what was changed since it was found, if nobody else has written meanwhile.
    pub(super) async fn commit(&self, key: &Key, found: &Found) -> Result<(), SessionError> {
        let text = self.checked(found).inspect_err(|_| self.count(Told::Full))?;
        match self.write(None, key, found.version, new_version(), &text, found.ends_in).await? {
            Written::Yes => {
                self.count(Told::Written);
                Ok(())
            }
            Written::No(_) => {
                self.count(Told::Conflicted);
                Err(SessionError::Conflict)
            }
            Written::Full => Err(self.no_room()),
        }
    }

    /// Keeps an empty session under a new handle.
    pub(super) async fn open(&self, key: &Key) -> Result<(), SessionError> {
        self.commit(key, &self.empty()).await
    }

    pub(super) async fn end(&self, key: &Key) -> Result<bool, SessionError> {
        self.wrote(self.step(None, self.shared.backend.delete(key.id(), None)).await)
    }

    /// Moves the session to another key, with all that was written until it is gone from the first. It ends when it would have.
    pub(super) async fn renew(&self, from: &Key, to: &Key) -> Result<(), SessionError> {
        let mut kept = None;
        for _ in 0..self.settings.max_tries.get() {
            let asked = Instant::now();
            let found = self.load(from).await?;
            let Some(version) = found.version else { return Err(SessionError::Unknown) };
            let (text, new) = (found.data.to_text().map_err(unreadable)?, new_version());
            let ends_in = found.ends_in.saturating_sub(asked.elapsed());
            // Nobody else knows the new key yet.
            match self.write(None, to, kept, new, &text, ends_in).await? {
                Written::Yes => {}
                Written::No(_) => return Err(SessionError::Conflict),
                Written::Full => return Err(self.no_room()),
            }
            kept = Some(new);
            if self.wrote(self.step(None, self.shared.backend.delete(from.id(), Some(version))).await)? {
                return Ok(());
            }
        }
        self.end(to).await?;
        Err(SessionError::Conflict)
    }

    async fn fetch(&self, turn: Option<&mut Writer<'_>>, key: &Key) -> Result<Option<Record>, SessionError> {
        let record = self.step(turn, self.shared.backend.load(key.id())).await;
        let record = record.map_err(|error| SessionError::of_step(error, SessionError::Unavailable))?;
        self.shared.turns.saw(key.id(), record.as_ref());
        self.count(Told::Read);
        Ok(record)
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

    /// Tells the backend that the session is in use, behind the scenes, at most every tenth of the idle timeout.
    fn touch_if_due(&self, key: &Key, record: &Record) {
        let ttl = self.settings.idle_timeout;
        if ttl.min(record.ends_in).saturating_sub(record.expires_in) < ttl / 10 {
            return;
        }
        let id = Arc::clone(key.id());
        if !self.shared.touching.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&id)) {
            return;
        }
        let (engine, touching) = (self.clone(), Touching { id, shared: Arc::clone(&self.shared) });
        tokio::spawn(async move {
            // Its failure is one of the backend, which is said there.
            if engine.step(None, engine.shared.backend.touch(&touching.id, ttl)).await.is_err() {
                tracing::debug!("the use of a session was not noted");
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
        turn: Option<&mut Writer<'_>>,
        key: &Key,
        expected: Option<u64>,
        version: u64,
        data: &str,
        ends_in: Duration,
    ) -> Result<Written, SessionError> {
        let opener = expected.is_none().then(|| key.opener());
        let (id, write) = (key.id(), Write { version, data, ttl: self.settings.idle_timeout, ends_in, opener });
        let backend = &self.shared.backend;
        self.wrote(match expected {
            None => self.step(turn, backend.create(id, write)).await,
            Some(expected) => self.step(turn, backend.compare_and_swap(id, expected, write)).await,
        })
    }

    fn no_room(&self) -> SessionError {
        self.count(Told::Full);
        if let Some(unsaid) = self.shared.full.due() {
            tracing::warn!(unsaid, "a caller's share of the sessions is full");
        }
        SessionError::NoRoom
    }

    fn wrote<T>(&self, step: Result<T, BackendError>) -> Result<T, SessionError> {
        step.map_err(|error| {
            let otherwise = if error.may_be_taken() { SessionError::Unknowable } else { SessionError::Unavailable };
            SessionError::of_step(error, otherwise)
        })
    }

    async fn step<T>(&self, turn: Option<&mut Writer<'_>>, step: BackendFuture<'_, T>) -> Result<T, BackendError> {
        let ended = match turn {
            Some(turn) => turn.wait(step).await,
            None => timeout(self.settings.backend_timeout, step).await,
        };
        match ended.unwrap_or_else(|_| Err(BackendError::new("no answer in time"))) {
            Ok(done) => {
                if let Some(Over { after_ms, failures }) = self.shared.outage.worked() {
                    tracing::info!(after_ms, failures, "the backend of the sessions works again");
                }
                Ok(done)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Counts a failure of the backend, and says it now and then.
    fn failed(&self, error: BackendError) -> BackendError {
        self.count(Told::Unavailable);
        if !error.concerns_all() {
            tracing::debug!(%error, "a session was not used: the transaction of its call fails");
        } else if let Some(unsaid) = self.shared.outage.failed() {
            tracing::warn!(%error, unsaid, "the backend of the sessions fails");
        }
        error.of_backend(self.shared.backend.name())
    }
}

/// A touch under way. Its drop makes room for the next one.
struct Touching {
    id: Arc<str>,
    shared: Arc<Shared>,
}

impl Drop for Touching {
    fn drop(&mut self) {
        self.shared.touching.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A session that has to be opened has to be there.
fn not_there(key: &Key) -> Result<(), SessionError> {
    if key.handle.is_some() { Err(SessionError::Unknown) } else { Ok(()) }
}

fn is_small(record: &Record) -> bool {
    record.data.len() <= REMEMBERED_BYTES
}

/// A number that no other write has: the keys of `RandomState` come from the system's randomness, each pair once.
fn new_version() -> u64 {
    const BITS: u64 = (1 << 63) - 1;
    (RandomState::new().hash_one(()) & BITS).max(1)
}

/// A record that this crate did not write.
fn unreadable(error: serde_json::Error) -> SessionError {
    tracing::error!(%error, "the record of a session cannot be read");
    SessionError::Unavailable(BackendError::new(error))
}
