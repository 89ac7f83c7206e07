//! The events of rmcp's streams: what all logs of them share.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::transport::streamable_http_server::session::{EventStore, EventStoreError, EventStream, ServerSseMessage};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::ConfigError;
use crate::canonical::sha256;
use crate::telemetry::{Outage, Over};

mod asked;
mod error;
mod follow;
mod owner;
mod payload;
#[cfg(feature = "redis")]
mod redis;
mod settings;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;

use self::asked::AskedBy;
pub(super) use self::asked::mark;
pub use self::error::EventLogError;
use self::owner::Owner;
#[cfg(feature = "redis")]
pub use self::redis::{RedisEventStore, RedisEvents};
use self::settings::Settings;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::sql::{EVENT_SCHEMA, EventDatabase, SqlEventStore, SqlEvents};

/// Keeps the events of rmcp's streams, so that a client whose connection was cut gets the rest of a stream from any replica. See the
/// [manual](super).
///
/// It is rmcp's [`EventStore`]. `RedisEventStore` and `SqlEventStore` are its two kinds.
#[must_use]
pub struct EventLog<L> {
    pub(super) log: Arc<L>,
    settings: Settings,
    outage: Arc<Outage>,
    pub(super) owner: Option<Arc<Owner>>,
}

/// Where an [`EventLog`] keeps its events. Sealed: its module is private.
#[doc(hidden)]
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// For error texts and the log.
    const NAME: &'static str;

    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn check_storage(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Appends an event to a stream, drops the oldest ones beyond the bounds, and returns the id of the new one. `None` if the stream is
    /// abandoned.
    async fn append(&self, event: NewEvent<'_>) -> Result<Option<String>, EventLogError>;

    /// Returns the event with this id, and up to `limit` later ones of its stream, in their order. `None` if it is not kept.
    async fn read_from(&self, id: &str, limit: usize) -> Result<Option<Vec<KeptEvent>>, EventLogError>;

    /// Keeps the event with this id, and all later ones of its stream, for `ttl` from now.
    async fn touch(&self, id: &str, ttl: Duration) -> Result<(), EventLogError>;

    /// Marks the stream of an event as abandoned, if the event is its last one. From then on, the stream takes no event.
    async fn abandon(&self, last: &str, secret: &str, ttl: Duration) -> Result<(), EventLogError>;

    /// Keeps the lease of an owner, which has 32 hexadecimal digits, for `lease` from now.
    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), EventLogError>;

    /// Returns how long the lease of an owner lasts, or `None` if it has ended.
    async fn lease_left(&self, owner: &str) -> Result<Option<Duration>, EventLogError>;
}

/// An event to append.
#[doc(hidden)]
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// 32 hexadecimal digits that stand for the stream.
    pub stream: &'a str,
    /// 128 random bits, in 32 hexadecimal digits. A second event with the same secret is the first one, sent again.
    pub secret: &'a str,
    pub data: &'a str,
    pub ttl: Duration,
    pub max_events: u32,
    pub max_bytes: usize,
}

/// An event that is kept.
#[doc(hidden)]
#[derive(Debug)]
pub struct KeptEvent {
    pub id: String,
    pub data: String,
}

impl<L: Log> EventLog<L> {
    pub(super) fn on(log: L) -> Self {
        Self { log: Arc::new(log), settings: Settings::default(), outage: Arc::default(), owner: None }
    }

    /// Sets how long an event is kept. At least 1 ms. Default: 1 hour.
    ///
    /// Set it above the longest time for which a call is silent: a client that lost its connection in the meantime has no later event to
    /// resume from. While a client follows a stream, the end of the stream does not expire.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// Bounds the number of events of a stream: the oldest are dropped. Default: 1,000.
    pub fn with_max_events(mut self, max_events: u32) -> Self {
        self.settings.max_events = max_events;
        self
    }

    /// Bounds the bytes of the events of a stream: the oldest are dropped. The newest is always kept, or its answer would be lost.
    /// Default: 4 MiB.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.settings.max_bytes = max_bytes;
        self
    }

    /// Sets the longest pause between two looks for new events of a stream that a client has resumed. The pauses begin with 50 ms, and
    /// double while nothing comes. At least 1 ms. Default: 1 s.
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// Bounds each step of the backend. At least 1 ms. Default: 2 s.
    pub fn with_backend_timeout(mut self, timeout: Duration) -> Self {
        self.settings.backend_timeout = timeout;
        self
    }

    /// Sets how long a process counts as alive after it last said so. A [`ReplicaSessionManager`](super::ReplicaSessionManager) says so
    /// three times in that time. At least 1 ms. Default: 30 s.
    ///
    /// A client that resumes a call whose process has died gets its error after this time. A process that cannot reach the backend for
    /// longer loses its calls under way, if their clients resume meanwhile. In a database, one connection of the pool is reserved for the
    /// lease, so tools that use the same pool cannot end it; a pool of one connection has none to reserve. On SQLite, a transaction that
    /// writes keeps all others from writing, so a lease must be longer than any such transaction takes.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Makes this process the owner of the streams that it writes from now on, with a lease.
    pub(super) fn owned(mut self) -> Self {
        self.owner = Some(Arc::default());
        self
    }

    /// Returns the id of this process, which has a lease. `None` for a process without one.
    pub(super) async fn hold_lease(&self) -> Result<Option<&str>, EventLogError> {
        let Some(owner) = &self.owner else { return Ok(None) };
        // Those who wait for the first one wait no longer than for a step of their own.
        match timeout(self.settings.backend_timeout, owner.hold(|| self.begin_lease())).await {
            Ok(held) => held.map(Some),
            Err(_) => Err(EventLogError::backend("no answer in time")),
        }
    }

    async fn begin_lease(&self) -> Result<(String, AbortHandle), EventLogError> {
        let (id, lease) = (secret()?, self.settings.lease);
        self.step(self.log.renew(&id, lease)).await?;
        // Without the owner, whose drop ends the task.
        let (log, owner) = (Self { owner: None, ..self.clone() }, id.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(lease / 3).await;
                // A failure is logged there. If the lease has ended, the next renewal begins it again.
                let _ = log.step(log.log.renew(&owner, lease)).await;
            }
        });
        Ok((id, renewal.abort_handle()))
    }

    /// Checks the settings. Call it, or [`check_storage`](Self::check_storage), before the server starts, since rmcp does not.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a setting that cannot work. Each use of the store fails with the same error.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.settings.check(L::NAME)?;
        self.log.check()
    }

    /// Checks the settings, and that the storage is ready for use.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`], also for a table that does not exist. A storage that cannot be reached is no error: the streams that need it
    /// fail.
    pub async fn check_storage(&self) -> Result<(), ConfigError> {
        self.check()?;
        self.log.check_storage().await
    }

    async fn step<T>(&self, step: impl Future<Output = Result<T, EventLogError>> + Send) -> Result<T, EventLogError> {
        let ended = timeout(self.settings.backend_timeout, step).await;
        match ended.unwrap_or_else(|_| Err(EventLogError::backend("no answer in time"))) {
            Ok(done) => {
                if let Some(Over { after_ms, failures }) = self.outage.worked() {
                    tracing::info!(after_ms, failures, "the event store works again");
                }
                Ok(done)
            }
            Err(error) => {
                if let Some(unsaid) = self.outage.failed() {
                    tracing::warn!(%error, store = L::NAME, unsaid, "the event store fails");
                }
                Err(error)
            }
        }
    }
}

#[async_trait]
impl<L: Log> EventStore for EventLog<L> {
    async fn store_event(&self, stream_id: &str, event: &ServerSseMessage) -> Result<String, EventStoreError> {
        self.check()?;
        // The id of a stream may have the id of its session in it.
        let (stream, secret) = (&sha256(stream_id.as_bytes())[..32], secret()?);
        // The lease begins before the first event, or the stream would look abandoned.
        let owner = if payload::is_of_request(stream_id) { self.hold_lease().await? } else { None };
        let data = payload::encode(stream_id, event, owner)?;
        let Settings { ttl, max_events, max_bytes, .. } = self.settings;
        let new = NewEvent { stream, secret: &secret, data: &data, ttl, max_events, max_bytes };
        let Some(id) = self.step(self.log.append(new)).await? else {
            if payload::is_answer(event) {
                tracing::warn!(store = L::NAME, "an answer is late: its client was told that the outcome is unknown");
            }
            return Err(EventLogError::Abandoned.into());
        };
        Ok(id)
    }

    async fn replay_events_after(&self, last_event_id: &str) -> Result<EventStream, EventStoreError> {
        self.check()?;
        let Some((id, asked_by)) = AskedBy::split(last_event_id) else {
            return Err(EventLogError::UnknownEvent.into());
        };
        let found = self.step(self.log.read_from(id, follow::PAGE)).await?;
        let Some(page) = found else { return Err(EventLogError::UnknownEvent.into()) };
        Ok(follow::follow(self.clone(), page, asked_by))
    }
}

/// Makes a text that cannot be guessed: 128 random bits, in 32 hexadecimal digits.
fn secret() -> Result<String, EventLogError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| EventLogError::backend(error.to_string()))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bits)))
}

impl<L> Clone for EventLog<L> {
    fn clone(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            settings: self.settings,
            outage: Arc::clone(&self.outage),
            owner: self.owner.clone(),
        }
    }
}

impl<L: Log> fmt::Debug for EventLog<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(L::NAME).field("settings", &self.settings).finish_non_exhaustive()
    }
}
