//! Which session a call belongs to, and under which id it is kept.

use std::sync::{Arc, OnceLock};

use turbomcp_core::RequestContext;

use super::engine::Engine;
use super::{BackendError, Opener, SessionError};
use crate::canonical::{encode_str, sha256};

/// What names a session. Whatever it is, the session belongs to whoever opened it, and nobody else finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SessionMode {
    /// The session of the transport: one for each connection, or each `mcp-session-id` over HTTP. It ends for the client with its
    /// connection, and with the replica that opened it.
    #[default]
    Transport,
    /// The user who has signed in. Survives connections and replicas. Nobody in particular has no session.
    Principal,
    /// A handle that the tool `open_session` makes, given with each call. Survives connections and replicas.
    Handle,
}

/// The name of a session, and whose it is.
pub(super) struct Key {
    /// Namespace, mode, name and caller, so that two keys are equal exactly if they are the same session.
    canonical: Vec<u8>,
    /// Where the caller begins.
    caller: usize,
    id: OnceLock<Arc<str>>,
    opener: OnceLock<(String, Option<String>)>,
    /// That of a caller whom nobody knows.
    connection: Option<Box<str>>,
    pub(super) handle: Option<String>,
}

impl Key {
    /// The session of a call by its connection or its user.
    pub(super) fn of_call(engine: &Engine, ctx: &RequestContext) -> Result<Self, SessionError> {
        let mode = engine.settings.mode;
        let name = match mode {
            SessionMode::Transport => ctx.session_id(),
            // The caller is a part of the key anyway.
            SessionMode::Principal => ctx.subject().map(|_| ""),
            SessionMode::Handle => None,
        };
        let name = name.ok_or(SessionError::None(mode))?;
        let key = Self::new(engine.namespace(), mode, name, |key| engine.settings.identity.caller(ctx).encode(key));
        Ok(Self { connection: anonymous_connection(ctx), ..key })
    }

    pub(super) fn of_handle(engine: &Engine, handle: String, ctx: &RequestContext) -> Self {
        let key = Self::named(engine.namespace(), handle, |key| engine.settings.identity.caller(ctx).encode(key));
        Self { connection: anonymous_connection(ctx), ..key }
    }

    /// The session of another handle, of the same owner.
    pub(super) fn renewed(&self, namespace: &str, handle: String) -> Self {
        let key = Self::named(namespace, handle, |key| key.extend_from_slice(&self.canonical[self.caller..]));
        Self { connection: self.connection.clone(), ..key }
    }

    fn named(namespace: &str, handle: String, caller: impl FnOnce(&mut Vec<u8>)) -> Self {
        let named = Self::new(namespace, SessionMode::Handle, &handle, caller);
        Self { handle: Some(handle), ..named }
    }

    fn new(namespace: &str, mode: SessionMode, name: &str, encode_caller: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut canonical = Vec::with_capacity(128);
        encode_str(namespace, &mut canonical);
        canonical.push(match mode {
            SessionMode::Transport => b't',
            SessionMode::Principal => b'p',
            SessionMode::Handle => b'h',
        });
        encode_str(name, &mut canonical);
        let caller = canonical.len();
        encode_caller(&mut canonical);
        Self { canonical, caller, id: OnceLock::new(), opener: OnceLock::new(), connection: None, handle: None }
    }

    /// The id in the backend: hashed, so that who sees a shared store cannot use what stands there.
    pub(super) fn id(&self) -> &Arc<str> {
        self.id.get_or_init(|| sha256(&self.canonical).into())
    }

    /// Whose share of the backend the session is in.
    pub(super) fn opener(&self) -> Opener<'_> {
        let (caller, connection) = self.opener.get_or_init(|| {
            let connection = self.connection.as_deref().map(|connection| sha256(connection.as_bytes()));
            (sha256(&self.canonical[self.caller..]), connection)
        });
        Opener { caller, connection: connection.as_deref() }
    }
}

/// Tells callers apart whom nobody knows.
fn anonymous_connection(ctx: &RequestContext) -> Option<Box<str>> {
    ctx.session_id().filter(|_| ctx.subject().is_none()).map(Into::into)
}

/// A handle that nobody can guess: 128 random bits.
pub(super) fn new_handle() -> Result<String, SessionError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| SessionError::Unavailable(BackendError::new(error.to_string())))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bits)))
}
