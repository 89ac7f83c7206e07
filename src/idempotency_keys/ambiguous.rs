//! Ambiguous calls: it is not known whether they took effect.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use turbomcp_types::ToolResult;

use super::call::{self, CALLER, SPACE};

/// The maximum of calls on a page.
const MAX_PAGE: usize = 1000;

/// Which ambiguous calls to list.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Page<'a> {
    /// The beginning of the ids of the calls.
    pub space: &'a str,
    /// The [`AmbiguousCalls::next`] of the page before. `None`: the first page.
    pub after: Option<&'a str>,
    /// How many calls the page has at most. A backend that reads a number of keys at a time, such as Redis, may return a few more.
    pub limit: usize,
}

impl<'a> Page<'a> {
    pub(crate) fn new(space: &'a str, after: Option<&'a str>, limit: usize) -> Self {
        Self { space, after, limit: limit.clamp(1, MAX_PAGE) }
    }
}

/// A page of ambiguous calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AmbiguousCalls {
    /// The calls. There may be fewer than the limit, or none, although others follow.
    pub calls: Vec<AmbiguousCall>,
    /// Where the next page begins. `None`: this is the last page.
    pub next: Option<String>,
}

impl AmbiguousCalls {
    /// Creates a page: for a backend of your own.
    #[must_use]
    pub fn new(calls: Vec<AmbiguousCall>, next: Option<String>) -> Self {
        Self { calls, next }
    }
}

/// A call that may or may not have taken effect. It has neither the arguments nor the name of the caller, since these are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AmbiguousCall {
    /// The hash of server, version, caller, tool and key.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The idempotency key.
    pub key: String,
    /// How long the call has been ambiguous, as far as the backend knows.
    pub age: Duration,
}

impl AmbiguousCall {
    /// Creates a call: for a backend of your own.
    #[must_use]
    pub fn new(id: impl Into<String>, tool: impl Into<String>, key: impl Into<String>, age: Duration) -> Self {
        Self { id: id.into(), tool: tool.into(), key: key.into(), age }
    }

    /// Returns 16 hexadecimal digits that all calls of one caller share, and almost certainly no others. See
    /// [`Handle::caller`](super::Handle::caller).
    #[must_use]
    pub fn caller(&self) -> &str {
        self.id.get(SPACE..SPACE + CALLER).unwrap_or_default()
    }

    /// Returns the 16 hexadecimal digits that stand for the key in the log, as `key_hash`.
    #[must_use]
    pub fn key_hash(&self) -> String {
        call::hash(&self.id).as_str().to_owned()
    }
}

/// The answer of a backend that was to resolve an ambiguous claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolved {
    /// The call is resolved.
    Yes,
    /// There is no such claim.
    Unknown,
    /// It is not ambiguous: its call is running.
    Running,
    /// It is not ambiguous: its call has an answer.
    Answered,
}

/// What you found out about an ambiguous call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Resolution {
    /// It took effect, with this result. A further call with the key gets the result.
    Done(ToolResult),
    /// It took no effect. A further call with the key runs the tool.
    NotDone,
}

/// Why a call was not resolved, or calls were not listed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// The layer was not put on a server, or takes no keys.
    NotLayered,
    /// The layer does not act on this tool.
    UnknownTool,
    /// The key does not have the form of a key.
    InvalidKey,
    /// This caller has made no such call, or it has been resolved or forgotten.
    UnknownCall,
    /// The call is running: it is not ambiguous, at least not yet.
    Running,
    /// The call has an answer: it is not ambiguous.
    Answered,
    /// The backend failed. It is not known whether anything has changed.
    Backend(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLayered => {
                "this layer was not put on a server, or takes no keys: call `layer(server)` or `try_layer(server)` first"
            }
            Self::UnknownTool => "this layer does not act on the tool",
            Self::InvalidKey => "the key does not have the form of an idempotency key",
            Self::UnknownCall => "this caller has made no such call, or it has been resolved or forgotten",
            Self::Running => "the call is running, so it is not ambiguous yet",
            Self::Answered => "the call has an answer, so it is not ambiguous",
            Self::Backend(error) => return write!(f, "{error}"),
        })
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Backend(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
