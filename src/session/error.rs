use std::error::Error;
use std::fmt;

use serde_json::json;
use turbomcp_core::McpError;

use super::{BackendError, SESSION, SessionMode};
use crate::identity::UNREAD_CREDENTIALS;
use crate::masked::{CallLabel, error_id};
use crate::outcome::ErrorKind;

/// The failure of an operation on a session. `?` converts it into a [`McpError`], with a text for the caller.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The code does not run in a call of a tool that the layer acts on.
    NoLayer,
    /// The call has no session: no transport session, no authenticated user, or no handle.
    None(SessionMode),
    /// The request has credentials, but the server does not say whose they are.
    UnknownCaller,
    /// This caller has no session under this handle: it never existed, it has ended, or it belongs to another caller.
    Unknown,
    /// The value of a key does not have the type that was asked for.
    #[non_exhaustive]
    Undecodable {
        /// The key.
        key: String,
        /// The error of the value.
        error: serde_json::Error,
    },
    /// A value cannot be written as JSON.
    #[non_exhaustive]
    Unencodable {
        /// The key.
        key: String,
        /// The error of the value.
        error: serde_json::Error,
    },
    /// The session would take more bytes than allowed. Nothing was changed.
    #[non_exhaustive]
    TooManyBytes {
        /// The bytes that it would take.
        bytes: usize,
        /// The bytes that are allowed.
        max_bytes: usize,
    },
    /// The session would have more keys than allowed. Nothing was changed.
    #[non_exhaustive]
    TooManyKeys {
        /// The number of keys that is allowed.
        max_keys: usize,
    },
    /// The caller's share of the sessions is full. Nothing was changed.
    NoRoom,
    /// At each attempt, another writer changed the session first. Nothing was changed.
    Conflict,
    /// The session has no handle, so it cannot get a new one.
    NotRenewable,
    /// The tool's own transaction holds the only connection of the pool, or on SQLite the write lock. Write sessions
    /// [in transactions](super::SqlBackend::in_transactions), or give them a database of their own. Nothing was changed.
    WaitsForItself(BackendError),
    /// The database has no table for sessions: create it with `SqlBackend::ensure_schema`. Nothing was changed.
    NoTable(BackendError),
    /// The backend failed, was too slow, or returned a record that cannot be read. Nothing was changed.
    Unavailable(BackendError),
    /// The backend failed, or was too slow, during a write. The change may have been kept.
    OutcomeUnknown(BackendError),
}

impl SessionError {
    /// The error of a failed step of the backend; `otherwise` makes it unless the step waited for its own transaction, or the table does not exist.
    pub(super) fn of_step(error: BackendError, otherwise: impl FnOnce(BackendError) -> Self) -> Self {
        match error {
            error if error.waits_for_itself() => Self::WaitsForItself(error),
            error if error.is_missing_table() => Self::NoTable(error),
            error => otherwise(error),
        }
    }
}

impl From<SessionError> for McpError {
    /// Logs the details, which the caller must not see.
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoLayer => {
                let text = "This tool needs a session, and there is none here: put a `SessionStore` around the server. A task that \
                            the tool spawns has no session: get it before, and move it into the task";
                Self::internal(text).with_data(json!({ SESSION: "no_layer" }))
            }
            SessionError::None(mode) => mode.missing(),
            SessionError::UnknownCaller => {
                Self::new(ErrorKind::Configuration, format!("This tool needs to know its caller: {UNREAD_CREDENTIALS}"))
                    .with_data(json!({ SESSION: "unknown_caller" }))
            }
            SessionError::Unknown => Self::invalid_params(
                "There is no such session: it has expired, was closed, or never existed. Open a new one",
            )
            .with_data(json!({ SESSION: "unknown" })),
            SessionError::Undecodable { key, error } => {
                tracing::error!(key, %error, "a session value does not have the type that the tool expects");
                Self::internal(format!("The session value `{key}` does not have the type that this tool expects"))
                    .with_data(json!({ SESSION: "undecodable" }))
            }
            SessionError::Unencodable { key, error } => {
                tracing::error!(key, %error, "a session value cannot be written as JSON");
                Self::internal(format!("This tool cannot write the session value `{key}` as JSON"))
                    .with_data(json!({ SESSION: "unencodable" }))
            }
            SessionError::TooManyBytes { max_bytes, .. } => Self::invalid_request(format!(
                "The session is full: it may take {max_bytes} bytes. Nothing was changed"
            ))
            .with_data(json!({ SESSION: "full" })),
            SessionError::TooManyKeys { max_keys } => Self::invalid_request(format!(
                "The session is full: it may have {max_keys} values. Nothing was changed"
            ))
            .with_data(json!({ SESSION: "full" })),
            SessionError::NoRoom => Self::new(
                ErrorKind::ServerOverloaded,
                "There is no room for more of your sessions: end one, or try again later. Nothing was changed",
            )
            .with_data(json!({ SESSION: "no_room" })),
            SessionError::Conflict => Self::unavailable(
                "Too many calls change this session at the same time: try again later. Nothing was changed",
            )
            .with_data(json!({ SESSION: "conflict" })),
            SessionError::NotRenewable => {
                Self::internal("This session has no handle to replace").with_data(json!({ SESSION: "not_renewable" }))
            }
            SessionError::WaitsForItself(_) => {
                Self::internal("This tool's session waits for the tool's own transaction. The session was not changed")
                    .with_data(json!({ SESSION: "waits_for_itself" }))
            }
            SessionError::NoTable(error) => {
                let id = logged(&error, false);
                Self::internal(format!("Sessions cannot be used: {error}. Nothing was changed (error {id})"))
                    .with_data(json!({ SESSION: "no_table" }))
            }
            SessionError::Unavailable(error) => {
                let id = logged(&error, false);
                Self::unavailable(format!(
                    "Sessions are unavailable: try again later. Nothing was changed (error {id})"
                ))
                .with_data(json!({ SESSION: "unavailable" }))
            }
            SessionError::OutcomeUnknown(error) => {
                let id = logged(&error, true);
                Self::internal(format!(
                    "Sessions are unavailable. The change to this session may or may not have been kept (error {id})"
                ))
                .with_data(json!({ SESSION: "outcome_unknown" }))
            }
        }
    }
}

/// Logs the details, and returns the id of the log entry, which the caller reads.
fn logged(error: &BackendError, may_be_kept: bool) -> String {
    let (id, label, backend) = (error_id(), CallLabel::current(), error.backend());
    let (tool, key_hash, attempt) = (label.tool(), label.key_hash(), label.attempt);
    tracing::warn!(%error, may_be_kept, id, tool, key_hash, attempt, backend, "a session operation failed");
    id
}

impl SessionMode {
    /// The error of a call without a session.
    fn missing(self) -> McpError {
        let (kind, text) = match self {
            Self::Transport => (ErrorKind::InvalidRequest, "This call needs a session, but its connection has none"),
            Self::Principal => (
                ErrorKind::Authentication,
                "This call needs a session, and only an authenticated user has one: sign in",
            ),
            Self::Handle => (
                ErrorKind::InvalidParams,
                "This call needs a session: call `open_session`, and pass the session id it returns with every call",
            ),
        };
        McpError::new(kind, text).with_data(json!({ SESSION: "none" }))
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayer => f.write_str(
                "no `SessionStore` acts on this call: put one around the server, and get the session before a task is spawned",
            ),
            Self::None(mode) => write!(f, "the call has no session (mode: {mode:?})"),
            Self::UnknownCaller => f.write_str(UNREAD_CREDENTIALS),
            Self::Unknown => f.write_str("the caller has no such session"),
            Self::Undecodable { key, error } => write!(f, "the value of `{key}` cannot be read: {error}"),
            Self::Unencodable { key, error } => write!(f, "the value of `{key}` cannot be written: {error}"),
            Self::TooManyBytes { bytes, max_bytes } => {
                write!(f, "the session would take {bytes} bytes of {max_bytes}")
            }
            Self::TooManyKeys { max_keys } => write!(f, "the session would have more than {max_keys} keys"),
            Self::NoRoom => f.write_str("the caller's share of the sessions is full"),
            Self::Conflict => f.write_str("another writer changed the session first"),
            Self::NotRenewable => f.write_str("the session has no handle"),
            Self::WaitsForItself(error) | Self::NoTable(error) => error.fmt(f),
            Self::Unavailable(error) => write!(f, "the session backend is unavailable: {error}"),
            Self::OutcomeUnknown(error) => write!(f, "the session may or may not have been written: {error}"),
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Undecodable { error, .. } | Self::Unencodable { error, .. } => Some(error),
            Self::WaitsForItself(error)
            | Self::NoTable(error)
            | Self::Unavailable(error)
            | Self::OutcomeUnknown(error) => Some(error),
            _ => None,
        }
    }
}
