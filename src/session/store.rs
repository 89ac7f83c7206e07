use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use turbomcp_core::RequestContext;

use super::backend::Backend;
use super::engine::{Engine, Settings, Shared};
use super::key::{Key, new_handle};
use super::memory::MemoryBackend;
use super::session::{Current, CurrentSession, Session};
use super::{SessionError, SessionMode};
use crate::selection::{Plan, Selection, selectors};
use crate::shared_work::session_opened;
use crate::{Identity, scope};

/// Keeps data from one call to the next: the store, the layer and the handle in one. See the [manual](super).
///
/// Clones share the sessions.
#[derive(Clone)]
#[must_use = "a store does nothing until it is put on a handler or asked for a session"]
pub struct SessionStore {
    pub(super) engine: Engine,
    pub(super) selection: Selection,
    pub(super) plan: Plan<Arc<str>>,
}

impl SessionStore {
    /// Keeps sessions in `backend`. See the [defaults](super#defaults).
    pub fn new(backend: impl Backend) -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        let settings = Settings {
            mode: SessionMode::default(),
            namespace: None,
            identity: Identity::new(),
            argument: "session".to_owned(),
            is_optional: false,
            idle_timeout: HOUR,
            absolute_timeout: Some(24 * HOUR),
            max_bytes: 64 << 10,
            max_keys: 256,
            max_tries: NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN),
            backend_timeout: Duration::from_secs(2),
        };
        let engine = Engine { settings: Arc::new(settings), shared: Arc::new(Shared::new(backend)) };
        Self { engine, selection: Selection::new(), plan: Plan::default() }
    }

    /// Keeps sessions in this process, up to 100,000 of 256 MiB, of which [each caller has a share](MemoryBackend).
    pub fn in_memory() -> Self {
        Self::new(MemoryBackend::new())
    }

    /// Keeps sessions in Redis, for all replicas, on any connection whose clones share it, such as a
    /// [`RedisConnection`](crate::RedisConnection).
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn redis(connection: impl redis::aio::ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::new(super::RedisBackend::new(connection))
    }

    /// Keeps sessions in a table of a SQLite database. Make it with
    /// [`SqlBackend::ensure_schema`](super::SqlBackend::ensure_schema).
    #[cfg(feature = "sqlite")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::new(super::SqlBackend::new(pool))
    }

    /// Keeps sessions in a table of a PostgreSQL database, for all replicas. Make it with
    /// [`SqlBackend::ensure_schema`](super::SqlBackend::ensure_schema).
    #[cfg(feature = "postgres")]
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self::new(super::SqlBackend::new(pool))
    }

    selectors!();

    /// Sets what names a session.
    pub fn with_mode(mut self, mode: SessionMode) -> Self {
        self.settings().mode = mode;
        self
    }

    /// Lets calls without a session pass; [`Session::current`] then refuses, where a tool needs one after all.
    pub fn optional(mut self) -> Self {
        self.settings().is_optional = true;
        self
    }

    /// Sets the name of the argument that carries a handle.
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.settings().argument = argument.into();
        self
    }

    /// Keeps sessions apart from those of servers in another namespace on the same backend, such as `staging` and `production`.
    /// Default: the name of the server that the layer is put on. Replicas share sessions if they have the same namespace, and so do
    /// servers with different names, if a namespace is set: add the name to it where they must not (`staging/shop`).
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings().namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are told apart, each of whom has sessions of their own. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.settings().identity = identity;
        self
    }

    /// Sets how long a session is kept after it was last read or written.
    ///
    /// Use is noted every tenth of it at most, so a session may end by as much earlier.
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.settings().idle_timeout = idle_timeout;
        self
    }

    /// Sets how long a session is kept after its first write, however much it is used.
    pub fn with_absolute_timeout(mut self, absolute_timeout: Duration) -> Self {
        self.settings().absolute_timeout = Some(absolute_timeout);
        self
    }

    /// Keeps a session for as long as it is used.
    pub fn without_absolute_timeout(mut self) -> Self {
        self.settings().absolute_timeout = None;
        self
    }

    /// Bounds the bytes of each session, as JSON.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.settings().max_bytes = max_bytes;
        self
    }

    /// Bounds the keys of each session.
    pub fn with_max_keys(mut self, max_keys: usize) -> Self {
        self.settings().max_keys = max_keys;
        self
    }

    /// Sets how often a change is tried, the first time included, while other replicas change the same session.
    pub fn with_max_tries(mut self, max_tries: NonZeroU32) -> Self {
        self.settings().max_tries = max_tries;
        self
    }

    /// Bounds each step that the backend takes.
    pub fn with_backend_timeout(mut self, backend_timeout: Duration) -> Self {
        self.settings().backend_timeout = backend_timeout;
        self
    }

    /// Returns the session of a call, in a tool or anywhere else. Goes to the backend for nothing.
    ///
    /// # Errors
    ///
    /// [`SessionError::None`] if the call has none: see [`SessionMode`]. One that is named by a handle is found only under the
    /// layer; elsewhere, use [`of_handle`](Self::of_handle).
    pub fn of(&self, ctx: &RequestContext) -> Result<Session, SessionError> {
        session_opened();
        if self.engine.settings.mode == SessionMode::Handle
            && let Some(CurrentSession::Session(session)) =
                scope::current::<Current>().as_deref().map(|current| &current.session)
            && Arc::ptr_eq(&session.engine.shared, &self.engine.shared)
        {
            return Ok(session.clone());
        }
        Ok(self.session(Key::of_call(&self.engine, ctx)?))
    }

    /// Returns the session that the caller of `ctx` has opened under this handle, whatever the mode. Goes to the backend for
    /// nothing: a handle that nobody has opened is refused when it is used.
    #[must_use]
    pub fn of_handle(&self, ctx: &RequestContext, handle: impl Into<String>) -> Session {
        session_opened();
        self.session(Key::of_handle(&self.engine, handle.into(), ctx))
    }

    /// Opens a session for the caller of `ctx` under a new [handle](Session::handle), whatever the mode.
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
