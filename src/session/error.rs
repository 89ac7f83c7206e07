use std::error::Error;
use std::fmt;

use serde_json::json;
use turbomcp_core::McpError;

use super::session::Current;
use super::{BackendError, SESSION, SessionMode};
use crate::masked::{CallLabel, error_id};
use crate::outcome::ErrorKind;
use crate::scope;

/// Why a session did not do what was asked of it. `?` makes a [`McpError`] of it, with a text for the caller.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The code runs in no call of a tool that the layer acts on.
    NoLayer,
    /// The call belongs to no session: it has no transport session, no authenticated user, or no handle.
    None(SessionMode),
    /// This caller has no session of this name: it never was, it has ended, or it is somebody else's.
    Unknown,
    /// What is kept under a key is not what was asked for.
    Undecodable {
        /// The key.
        key: String,
        /// What is wrong with the value.
        error: serde_json::Error,
    },
    /// A value cannot be written as JSON.
    Unencodable {
        /// The key.
        key: String,
        /// What is wrong with the value.
        error: serde_json::Error,
    },
    /// The session would take more bytes than it may. Nothing was changed.
    TooManyBytes {
        /// How many it would take.
        bytes: usize,
        /// How many it may take.
        max_bytes: usize,
    },
    /// The session would have more keys than it may. Nothing was changed.
    TooManyKeys {
        /// How many it may have.
        max_keys: usize,
    },
    /// The caller keeps as much in sessions as there is room for. Nothing was changed.
    NoRoom,
    /// Others changed the session meanwhile, at each try. Nothing was changed.
    Conflict,
    /// The session is not named by a handle, so it can have no new one.
    NotRenewable,
    /// The tool's transaction holds what this waits for: the only connection of the pool, or on SQLite the right to write. Let sessions
    /// be written [in transactions](super::SqlBackend::in_transactions), or give them a database of their own. Nothing was changed.
    WaitsForItself(BackendError),
    /// The backend failed, was too slow, or answered what nobody understands. Nothing was changed.
    Unavailable(BackendError),
    /// The backend failed, or was too slow, while it wrote. The change may have been kept.
    Unknowable(BackendError),
}

impl SessionError {
    /// A step of the backend that failed, of which `otherwise` says what that means for what it was to do.
    pub(super) fn of_step(error: BackendError, otherwise: impl FnOnce(BackendError) -> Self) -> Self {
        if error.waits_for_itself() { Self::WaitsForItself(error) } else { otherwise(error) }
    }
}

impl From<SessionError> for McpError {
    /// Keeps what went wrong inside to the log.
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoLayer => Self::internal("This tool needs a session, and the server keeps none for it")
                .with_data(json!({ SESSION: "no_layer" })),
            SessionError::None(mode) => mode.missing(),
            SessionError::Unknown => Self::invalid_params(
                "There is no such session: it has expired, was closed, or never was. Open a new one",
            )
            .with_data(json!({ SESSION: "unknown" })),
            SessionError::Undecodable { key, error } => {
                tracing::error!(key, %error, "a value of a session is not what the tool expects");
                Self::internal(format!("What the session keeps as `{key}` is not what this tool expects"))
                    .with_data(json!({ SESSION: "undecodable" }))
            }
            SessionError::Unencodable { key, error } => {
                tracing::error!(key, %error, "a value cannot be kept in a session");
                Self::internal(format!("What this tool wants to keep as `{key}` cannot be kept"))
                    .with_data(json!({ SESSION: "unencodable" }))
            }
            SessionError::TooManyBytes { max_bytes, .. } => {
                Self::invalid_request(format!("The session is full: it keeps {max_bytes} bytes at most"))
                    .with_data(json!({ SESSION: "full" }))
            }
            SessionError::TooManyKeys { max_keys } => {
                Self::invalid_request(format!("The session is full: it keeps {max_keys} values at most"))
                    .with_data(json!({ SESSION: "full" }))
            }
            SessionError::NoRoom => Self::new(
                ErrorKind::ServerOverloaded,
                "There is no room for more sessions of yours at the moment: end one, or try again later. Nothing was changed",
            )
            .with_data(json!({ SESSION: "no_room" })),
            SessionError::Conflict => {
                Self::unavailable("Too many calls change this session at the same time; nothing was changed")
                    .with_data(json!({ SESSION: "conflict" }))
            }
            SessionError::NotRenewable => Self::internal("This session has no handle that could be replaced")
                .with_data(json!({ SESSION: "not_renewable" })),
            SessionError::WaitsForItself(_) => {
                Self::internal("This tool waits for what its own transaction holds; the session was not changed")
                    .with_data(json!({ SESSION: "waits_for_itself" }))
            }
            SessionError::Unavailable(error) => {
                let id = logged(&error, false);
                Self::unavailable(format!("The sessions are not available; nothing was changed (error {id})"))
                    .with_data(json!({ SESSION: "unavailable" }))
            }
            SessionError::Unknowable(error) => {
                let id = logged(&error, true);
                Self::internal(format!(
                    "The sessions are not available; a change to this one may or may not have been kept (error {id})"
                ))
                .with_data(json!({ SESSION: "unknowable" }))
            }
        }
    }
}

/// Logs what the caller does not read, and returns what the log calls it.
fn logged(error: &BackendError, may_be_kept: bool) -> String {
    let (id, label, backend) = (error_id(), CallLabel::current(), error.backend());
    let current = scope::current::<Current>();
    let tool = label.tool().or_else(|| current.as_deref().map(|current| &*current.tool));
    let (key_hash, attempt) = (label.key_hash(), label.attempt);
    tracing::warn!(%error, may_be_kept, id, tool, key_hash, attempt, backend, "a session could not be used");
    id
}

impl SessionMode {
    /// The answer to a call without a session.
    fn missing(self) -> McpError {
        let (kind, text) = match self {
            Self::Transport => (ErrorKind::InvalidRequest, "This call needs a session, and its connection has none"),
            Self::Principal => {
                (ErrorKind::Authentication, "This call needs a session, which only a user who has signed in has")
            }
            Self::Handle => (
                ErrorKind::InvalidParams,
                "This call needs a session: call `open_session`, and give what it answers with each call",
            ),
        };
        McpError::new(kind, text).with_data(json!({ SESSION: "none" }))
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayer => f.write_str("no `SessionStore` acts on this call"),
            Self::None(mode) => write!(f, "the call belongs to no session (mode: {mode:?})"),
            Self::Unknown => f.write_str("the caller has no such session"),
            Self::Undecodable { key, error } => write!(f, "the value of `{key}` cannot be read: {error}"),
            Self::Unencodable { key, error } => write!(f, "the value of `{key}` cannot be written: {error}"),
            Self::TooManyBytes { bytes, max_bytes } => {
                write!(f, "the session would take {bytes} bytes of {max_bytes}")
            }
            Self::TooManyKeys { max_keys } => write!(f, "the session would have more than {max_keys} keys"),
            Self::NoRoom => f.write_str("the caller's share of the sessions is full"),
            Self::Conflict => f.write_str("the session was changed by others meanwhile"),
            Self::NotRenewable => f.write_str("the session is not named by a handle"),
            Self::WaitsForItself(error) => error.fmt(f),
            Self::Unavailable(error) => write!(f, "the backend of the sessions is unavailable: {error}"),
            Self::Unknowable(error) => write!(f, "a session may have been written or not: {error}"),
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Undecodable { error, .. } | Self::Unencodable { error, .. } => Some(error),
            Self::WaitsForItself(error) | Self::Unavailable(error) | Self::Unknowable(error) => Some(error),
            _ => None,
        }
    }
}
