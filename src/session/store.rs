use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use turbomcp_core::RequestContext;

use super::backend::Backend;
use super::engine::{Engine, Shared};
use super::key::{Key, new_handle};
use super::memory::MemoryBackend;
use super::session::{Current, CurrentSession, Session};
use super::settings::Settings;
use super::{SessionError, SessionMode};
use crate::selection::{Plan, Selection, selectors};
use crate::shared_work::session_opened;
use crate::{ConfigError, Identity, scope};

/// Keeps data from one call to the next. It is the store and the layer in one. See the [manual](super).
///
/// Clones share the sessions.
#[derive(Clone)]
#[must_use = "a store does nothing until it is put on a server or asked for a session"]
pub struct SessionStore {
    pub(super) engine: Engine,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<str>>,
}

impl SessionStore {
    /// Creates a store that keeps sessions in `backend`. See the [defaults](super#defaults).
    pub fn new(backend: impl Backend) -> Self {
        let engine = Engine { settings: Arc::default(), shared: Arc::new(Shared::new(backend)) };
        Self { engine, selection: Selection::new(), plan: Plan::default() }
    }

    /// Creates a store in this process, for up to 100,000 sessions of 256 MiB together, of which
    /// [each caller has a share](MemoryBackend).
    pub fn in_memory() -> Self {
        Self::new(MemoryBackend::new())
    }

    /// Creates a store in Redis, which all replicas share, on a [`RedisConnection`](crate::RedisConnection) or an
    /// [`AnyRedisConnection`](crate::AnyRedisConnection).
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn redis(connection: impl Into<crate::AnyRedisConnection>) -> Self {
        Self::new(super::RedisBackend::new(connection))
    }

    /// Creates a store in a table of a SQLite database. Create the table with
    /// [`SqlBackend::ensure_schema`](super::SqlBackend::ensure_schema).
    #[cfg(feature = "sqlite")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::new(super::SqlBackend::new(pool))
    }

    /// Creates a store in a table of a PostgreSQL database, which all replicas share. Create the table with
    /// [`SqlBackend::ensure_schema`](super::SqlBackend::ensure_schema).
    #[cfg(feature = "postgres")]
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self::new(super::SqlBackend::new(pool))
    }

    selectors!();

    /// Sets what identifies a session. Default: [`SessionMode::Transport`].
    pub fn with_mode(mut self, mode: SessionMode) -> Self {
        self.settings().mode = mode;
        self
    }

    /// Lets calls without a session pass. In such a call, [`Session::current`] returns [`SessionError::None`].
    pub fn optional(mut self) -> Self {
        self.settings().is_optional = true;
        self
    }

    /// Sets the name of the argument that carries a handle. Default: `session`.
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.settings().argument = argument.into();
        self
    }

    /// Separates sessions from those of other namespaces on the same backend, such as `staging` and `production`. Default: the name of
    /// the server that the layer is put on. Replicas with the same namespace share sessions. So do servers with different names, if
    /// they set the same namespace: add the name to it where they must not (`staging/shop`).
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings().namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are distinguished. Each caller has sessions of its own. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings().identity = identity;
        self
    }

    /// Sets how long a session is kept after it was last read or written. Default: 1 hour.
    ///
    /// The store reports use to the backend at most every tenth of this time, so a session may end up to a tenth earlier.
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.settings().idle_timeout = idle_timeout;
        self
    }

    /// Sets how long a session is kept after its first write, even if it is used. Default: 24 hours.
    pub fn with_absolute_timeout(mut self, absolute_timeout: Duration) -> Self {
        self.settings().absolute_timeout = Some(absolute_timeout);
        self
    }

    /// Removes the absolute timeout: a session is kept as long as it is used.
    pub fn without_absolute_timeout(mut self) -> Self {
        self.settings().absolute_timeout = None;
        self
    }

    /// Bounds the bytes of each session, as JSON. At least 32. Default: 64 KiB.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.settings().max_bytes = max_bytes;
        self
    }

    /// Bounds the number of keys of each session. Default: 256.
    pub fn with_max_keys(mut self, max_keys: usize) -> Self {
        self.settings().max_keys = max_keys;
        self
    }

    /// Bounds the attempts of a change, the first one included, while other replicas change the same session. Default: 64.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.settings().max_attempts = max_attempts;
        self
    }

    /// Bounds each step of the backend. Default: 2 s.
    pub fn with_backend_timeout(mut self, backend_timeout: Duration) -> Self {
        self.settings().backend_timeout = backend_timeout;
        self
    }

    /// Checks the settings that do not depend on a server. The layer does so when it is put on one.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a setting that cannot work, of the store or of its backend.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.engine.settings.check()?;
        self.engine.shared.records.backend().check()
    }

    /// Returns the session of a call, in a tool or anywhere else, without a round trip to the backend.
    ///
    /// # Errors
    ///
    /// [`SessionError::None`] if the call has no session: see [`SessionMode`]. A session with a handle is found only inside the layer;
    /// elsewhere, use [`of_handle`](Self::of_handle).
    pub fn of(&self, ctx: &RequestContext) -> Result<Session, SessionError> {
        session_opened();
        if self.engine.settings.mode == SessionMode::Handle
            && let Some(CurrentSession::Session(session)) =
                scope::current::<Current>().as_deref().map(|current| &current.session)
            && Arc::ptr_eq(&session.engine.shared, &self.engine.shared)
        {
            return Ok(session.clone());
        }
        Ok(self.session(self.engine.key_of_call(ctx)?))
    }

    /// Returns the session that the caller of `ctx` has opened under this handle, in any mode, without a round trip to the backend. The
    /// use of a handle that was never opened fails with [`SessionError::Unknown`].
    #[must_use]
    pub fn of_handle(&self, ctx: &RequestContext, handle: impl Into<String>) -> Session {
        session_opened();
        self.session(self.engine.key_of_handle(handle.into(), ctx))
    }

    /// Opens a session for the caller of `ctx` under a new [handle](Session::handle), in any mode.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors).
    pub async fn open(&self, ctx: &RequestContext) -> Result<Session, SessionError> {
        let session = self.of_handle(ctx, new_handle()?);
        self.engine.open(&session.key).await?;
        Ok(session)
    }

    pub(super) fn session(&self, key: Key) -> Session {
        Session { engine: self.engine.clone(), key: Arc::new(key) }
    }

    fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.engine.settings)
    }
}

impl Default for SessionStore {
    fn default() -> Self {
        Self::in_memory()
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("settings", &self.engine.settings)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}
