//! The session that a call belongs to, and the id of its record.

use std::sync::{Arc, OnceLock};

use turbomcp_core::RequestContext;

use super::{BackendError, Opener, SessionError, SessionMode};
use crate::Identity;
use crate::canonical::{encode_str, sha256};

/// Identifies a session: its name and its owner.
pub(super) struct Key {
    /// Namespace, mode, name and caller: equal exactly for the same session.
    canonical: Vec<u8>,
    /// The offset of the caller in `canonical`.
    caller: usize,
    id: OnceLock<Arc<str>>,
    opener: OnceLock<(String, Option<String>)>,
    /// The connection of a caller who is not authenticated.
    connection: Option<Box<str>>,
    pub(super) handle: Option<String>,
}

impl Key {
    /// The session of a call, by its connection or its user.
    pub(super) fn of_call(
        mode: SessionMode,
        namespace: &str,
        identity: &Identity,
        ctx: &RequestContext,
    ) -> Result<Self, SessionError> {
        let name = match mode {
            SessionMode::Transport => ctx.session_id(),
            // The caller is a part of the key anyway.
            SessionMode::Principal => ctx.subject().map(|_| ""),
            SessionMode::Handle => None,
        };
        let name = name.ok_or(SessionError::None(mode))?;
        let key = Self::new(namespace, mode, name, |key| identity.caller(ctx).encode(key));
        Ok(Self { connection: anonymous_connection(ctx), ..key })
    }

    /// The session of a handle.
    pub(super) fn of_handle(namespace: &str, identity: &Identity, handle: String, ctx: &RequestContext) -> Self {
        let key = Self::named(namespace, handle, |key| identity.caller(ctx).encode(key));
        Self { connection: anonymous_connection(ctx), ..key }
    }

    /// The session of another handle, with the same owner.
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

    /// The id in the backend. It is hashed, so that a reader of a shared backend cannot use a session found there.
    pub(super) fn id(&self) -> &Arc<str> {
        self.id.get_or_init(|| sha256(&self.canonical).into())
    }

    /// The caller whose share of the backend holds the session.
    pub(super) fn opener(&self) -> Opener<'_> {
        let (caller, connection) = self.opener.get_or_init(|| {
            let connection = self.connection.as_deref().map(|connection| sha256(connection.as_bytes()));
            (sha256(&self.canonical[self.caller..]), connection)
        });
        Opener { caller, connection: connection.as_deref() }
    }
}

/// Distinguishes callers who are not authenticated.
fn anonymous_connection(ctx: &RequestContext) -> Option<Box<str>> {
    ctx.session_id().filter(|_| ctx.subject().is_none()).map(Into::into)
}

/// Makes a handle that cannot be guessed: 128 random bits.
pub(super) fn new_handle() -> Result<String, SessionError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| SessionError::Unavailable(BackendError::new(error.to_string())))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bits)))
}
