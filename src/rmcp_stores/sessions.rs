use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::transport::streamable_http_server::session::{SessionState, SessionStore, SessionStoreError};
use tokio::time::timeout;

use crate::ConfigError;
use crate::canonical::sha256;
use crate::session::{Backend, BackendError, Record, Write, Written};
use crate::telemetry::{Outage, Over};

/// How often a record is written at most while other processes write it too.
const MAX_ATTEMPTS: usize = 64;

/// The name in error texts.
const NAME: &str = "SessionStates";

/// Keeps the sessions of rmcp's HTTP transport in a [`session::Backend`](crate::session::Backend), so that every replica can serve
/// them. See the [manual](super).
///
/// It is rmcp's [`SessionStore`]. It also keeps the [owner](Self::claim) of each session.
#[must_use]
pub struct SessionStates<B> {
    backend: B,
    ttl: Duration,
    backend_timeout: Duration,
    outage: Outage,
}

impl<B: Backend> SessionStates<B> {
    /// Creates a store in `backend`, for 24 hours from the last use of a session.
    pub fn new(backend: B) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { backend, ttl: DAY, backend_timeout: Duration::from_secs(2), outage: Outage::default() }
    }

    /// Sets how long a session is kept after its last use. At least 1 ms. Default: 24 hours.
    ///
    /// rmcp loads a session only where the replica does not have it in memory. [`is_owner`](Self::is_owner) counts as a use too.
    /// Without it, set a `ttl` above the time for which one replica may serve a session without a pause of five minutes.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Bounds each step of the backend. At least 1 ms. Default: 2 s.
    pub fn with_backend_timeout(mut self, timeout: Duration) -> Self {
        self.backend_timeout = timeout;
        self
    }

    /// Checks the settings. Call it, or [`check_storage`](Self::check_storage), before the server starts, since rmcp does not.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a setting that cannot work. Each use of the store fails with the same error.
    pub fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_timeout(NAME, "with_ttl", self.ttl)?;
        ConfigError::check_timeout(NAME, "with_backend_timeout", self.backend_timeout)?;
        self.backend.check()
    }

    /// Checks the settings, and that the storage is ready for use.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`], also for a table that does not exist. A storage that cannot be reached is no error: the requests that need
    /// it fail.
    pub async fn check_storage(&self) -> Result<(), ConfigError> {
        self.check()?;
        self.backend.check_storage().await
    }

    /// Makes `owner` the owner of a session, unless it has one. Returns whether `owner` is the owner now.
    ///
    /// Call it when a client has opened a session: see [the example](super#example-only-the-owner-uses-a-session).
    ///
    /// # Errors
    ///
    /// [`SessionStatesError`], if the backend fails.
    pub async fn claim(&self, session_id: &str, owner: &str) -> Result<bool, SessionStatesError> {
        self.check()?;
        let (id, owner) = (owner_id(session_id), owner_hash(session_id, owner));
        match self.step(self.backend.create(&id, self.write(&owner))).await? {
            Written::Yes => Ok(true),
            Written::Conflict(Some(found)) => Ok(found.data == owner),
            Written::Conflict(None) => Ok(false),
            Written::Full => Err(SessionStatesError::NoRoom),
        }
    }

    /// Returns whether `owner` is the owner of a session. A session that nobody has [claimed](Self::claim) has no owner.
    ///
    /// It is a use of the session, which is kept for its ttl from now.
    ///
    /// # Errors
    ///
    /// [`SessionStatesError`], if the backend fails: refuse the request then.
    pub async fn is_owner(&self, session_id: &str, owner: &str) -> Result<bool, SessionStatesError> {
        self.check()?;
        let id = owner_id(session_id);
        let Some(record) = self.step(self.backend.load(&id)).await? else { return Ok(false) };
        let is_owner = record.data == owner_hash(session_id, owner);
        if is_owner && self.is_touch_due(&record) {
            // The record that it belongs to must not end before it.
            self.touch(&state_id(session_id)).await;
            self.touch(&id).await;
        }
        Ok(is_owner)
    }

    /// A use is reported to the backend at most every tenth of the ttl.
    fn is_touch_due(&self, record: &Record) -> bool {
        record.expires_in < self.ttl - self.ttl / 10
    }

    /// Keeps a record for the ttl from now. A failure is only logged: the record is there, and the next use tries again.
    async fn touch(&self, id: &str) {
        if let Err(error) = self.step(self.backend.touch(id, self.ttl)).await {
            tracing::debug!(%error, "the use of a session was not reported to its backend");
        }
    }

    fn write<'a>(&self, data: &'a str) -> Write<'a> {
        let version = fastrand::u64(1..1 << 63);
        Write { version, data, ttl: self.ttl, ends_in: Duration::MAX, opener: None }
    }

    async fn step<T>(
        &self,
        step: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, SessionStatesError> {
        match timeout(self.backend_timeout, step).await.unwrap_or_else(|_| Err(BackendError::new("no answer in time")))
        {
            Ok(done) => {
                if let Some(Over { after_ms, failures }) = self.outage.worked() {
                    tracing::info!(after_ms, failures, "the backend of rmcp's sessions works again");
                }
                Ok(done)
            }
            Err(error) => {
                if let Some(unsaid) = self.outage.failed() {
                    tracing::warn!(%error, backend = self.backend.name(), unsaid, "the backend of rmcp's sessions fails");
                }
                Err(SessionStatesError::Backend(error))
            }
        }
    }
}

// The ids are hashed: who reads the backend cannot use a session. They are longer than the ids of the crate's own sessions.

fn state_id(session_id: &str) -> String {
    format!("rmcp-state-{}", sha256(session_id.as_bytes()))
}

fn owner_id(session_id: &str) -> String {
    format!("rmcp-owner-{}", sha256(session_id.as_bytes()))
}

fn owner_hash(session_id: &str, owner: &str) -> String {
    sha256(format!("{} {session_id} {owner}", session_id.len()).as_bytes())
}

#[async_trait]
impl<B: Backend> SessionStore for SessionStates<B> {
    async fn load(&self, session_id: &str) -> Result<Option<SessionState>, SessionStoreError> {
        self.check()?;
        let id = state_id(session_id);
        let Some(record) = self.step(self.backend.load(&id)).await? else { return Ok(None) };
        let state = serde_json::from_str(&record.data).map_err(|_| SessionStatesError::Unreadable)?;
        self.touch(&id).await;
        Ok(Some(state))
    }

    async fn store(&self, session_id: &str, state: &SessionState) -> Result<(), SessionStoreError> {
        self.check()?;
        let (id, data) = (state_id(session_id), serde_json::to_string(state)?);
        let (write, mut expected) = (self.write(&data), None);
        for _ in 0..MAX_ATTEMPTS {
            let written = match expected {
                None => self.step(self.backend.create(&id, write)).await?,
                Some(version) => self.step(self.backend.compare_and_swap(&id, version, write)).await?,
            };
            expected = match written {
                Written::Yes => return Ok(()),
                Written::Full => return Err(SessionStatesError::NoRoom.into()),
                Written::Conflict(found) => found.map(|record| record.version),
            };
        }
        Err(SessionStatesError::Conflict.into())
    }

    async fn delete(&self, session_id: &str) -> Result<(), SessionStoreError> {
        self.check()?;
        // The owner goes last: until then, nobody else can claim the session.
        self.step(self.backend.delete(&state_id(session_id), None)).await?;
        self.step(self.backend.delete(&owner_id(session_id), None)).await?;
        Ok(())
    }
}

impl<B: Backend> fmt::Debug for SessionStates<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStates")
            .field("backend", &self.backend.name())
            .field("ttl", &self.ttl)
            .field("backend_timeout", &self.backend_timeout)
            .finish_non_exhaustive()
    }
}

/// The failure of a [`SessionStates`]. Its text has no id of a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionStatesError {
    /// A setting cannot work.
    Config(ConfigError),
    /// The backend failed or was too slow. A write may have been kept.
    Backend(BackendError),
    /// The backend has no room for another session.
    NoRoom,
    /// At each attempt, another process wrote the session first.
    Conflict,
    /// The record of the session is not one of this store.
    Unreadable,
}

impl From<ConfigError> for SessionStatesError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for SessionStatesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Backend(error) => write!(f, "the backend of rmcp's sessions fails: {error}"),
            Self::NoRoom => f.write_str("the backend has no room for another session of rmcp"),
            Self::Conflict => f.write_str("other processes wrote the session first, at each attempt"),
            Self::Unreadable => f.write_str("the record of a session of rmcp cannot be read"),
        }
    }
}

impl std::error::Error for SessionStatesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Backend(error) => Some(error),
            _ => None,
        }
    }
}
