//! The outcome of a tool call: success, failure or unfinished, the kind of a failure, and whether to repeat the call.
//!
//! A failure of a tool has three forms. A layer that recognizes only one of them caches errors, never retries, or commits a failed
//! transaction:
//!
//! | form | where it comes from |
//! | --- | --- |
//! | `Err(McpError)` | an unknown tool, a handler written by hand |
//! | `Ok` with `isError` and `_meta["io.turbomcp/errorKind"]` | a `#[server]` tool that returned `Err(McpError)` |
//! | `Ok` with `isError` and no kind | a `#[server]` tool with an error type of its own, `ToolResult::error` |
//!
//! Every layer calls [`failure`], and none matches on results itself.
//!
//! An [unfinished] answer is none of these: the call needs an input of the client first, or a task continues it. It is an error too, with
//! a mark that every layer knows. No layer keeps it, gives it to another caller, repeats the call or commits its transaction.
//!
//! [unfinished]: Failure::unfinished
//!
//! # Example
//!
//! ```
//! use mcp_patterns::outcome::{self, ErrorKind};
//! use turbomcp::{McpError, ToolResult};
//!
//! let surfaced = Ok(McpError::unavailable("the weather service is down").to_tool_result());
//! let failure = outcome::failure(&surfaced).expect("isError is a failure");
//! assert_eq!(failure.kind(), Some(ErrorKind::Unavailable));
//! assert!(failure.is_temporary());
//!
//! assert!(outcome::failure(&Ok(ToolResult::text("sunny"))).is_none());
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use turbomcp_core::{McpError, McpResult, meta_keys};
use turbomcp_types::ToolResult;

pub use turbomcp_core::ErrorKind;

mod not_executed;
mod turned_away;
mod unfinished;
#[cfg(any(feature = "breaker", feature = "limited"))]
mod wait;

pub(crate) use self::unfinished::UNFINISHED;
pub use self::unfinished::Unfinished;
#[cfg(any(feature = "breaker", feature = "limited"))]
pub(crate) use self::wait::wait_in_words;

/// `_meta` entry, and entry of an error's data: the number of calls of the tool, where it is more than one.
pub const ATTEMPTS: &str = "mcp-patterns/attempts";
/// `_meta` entry, and entry of an error's data: why a temporary failure was not repeated.
pub const EXHAUSTED: &str = "mcp-patterns/exhausted";
/// Entry of an error's data: why an attempt was cancelled.
pub const RETRY: &str = "mcp-patterns/retry";
/// Entry of an error's data: a layer could not list the tools.
pub const CATALOGUE: &str = "mcp-patterns/catalogue";
/// `_meta` entry: whether the result came from a cache. Entry of an error's data: why there is no result.
pub const CACHE: &str = "mcp-patterns/cache";
/// `_meta` entry: the number of calls in the batch, and for a failure whether its outcome is unknown. Entry of an error's data:
/// why a call was refused, or not answered.
pub const BATCH: &str = "mcp-patterns/batch";
/// `_meta` entry: the state of a breaker that is not closed, or that the call has changed. Entry of an error's data: the state in which
/// it refused the call.
pub const BREAKER: &str = "mcp-patterns/breaker";
/// Entry of an error's data: why a call was refused or ended by its limits.
pub const LIMIT: &str = "mcp-patterns/limit";
/// `_meta` entry: what became of an answer above the bounds. Entry of an error's data: why there is no answer.
pub const OUTPUT: &str = "mcp-patterns/output";
/// Entry of an error's data: the reason of a failure of a session.
pub const SESSION: &str = "mcp-patterns/session";

/// The entry of an error's data with the time to wait before the next attempt, in milliseconds.
pub(crate) const RETRY_AFTER_MS: &str = "retryAfterMs";

/// Returns the failure of a call, or `None` for a success.
#[must_use]
pub fn failure(result: &McpResult<ToolResult>) -> Option<Failure<'_>> {
    match result {
        Err(error) => Some(Failure::of_error(error)),
        Ok(result) => Failure::of_result(result),
    }
}

/// A failed tool call, in any of the three forms.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a>(Form<'a>);

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    Error(&'a McpError),
    Result(&'a ToolResult),
}

impl<'a> Failure<'a> {
    pub(crate) fn of_error(error: &'a McpError) -> Self {
        Self(Form::Error(error))
    }

    pub(crate) fn of_result(result: &'a ToolResult) -> Option<Self> {
        result.is_error().then_some(Self(Form::Result(result)))
    }

    /// Returns the kind of the error, or `None` if it has none.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        match self.0 {
            Form::Error(error) => Some(error.kind),
            Form::Result(_) => ErrorKind::deserialize(self.meta(meta_keys::ERROR_KIND)?).ok(),
        }
    }

    /// Returns the text for the caller.
    #[must_use]
    pub fn message(&self) -> &'a str {
        match self.0 {
            Form::Error(error) => &error.message,
            Form::Result(result) => result.first_text().unwrap_or_default(),
        }
    }

    /// Returns the machine-readable detail that the tool attached to its error.
    #[must_use]
    pub fn data(&self) -> Option<&'a Value> {
        match self.0 {
            Form::Error(error) => error.data(),
            Form::Result(_) => self.meta(meta_keys::ERROR_DATA),
        }
    }

    /// Returns why the call is unfinished, or `None` for a failure.
    #[must_use]
    pub fn unfinished(&self) -> Option<Unfinished> {
        Unfinished::of(self.data()?)
    }

    /// Says whether the same call may succeed later: a timeout, an unavailable, overloaded or rate limited service, a broken
    /// connection, a failing external service. A failure without a kind is not temporary.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.kind().is_some_and(is_temporary) && self.unfinished().is_none()
    }

    /// Says whether the failure proves that the call took no effect: it was refused before it began.
    ///
    /// Only a refusal is proof: `invalid_params`, not found, not permitted, rejected by the user, or turned away
    /// (`rate_limited`, `server_overloaded`, `unavailable`), and a call that a layer says was cancelled before it began. A timeout, a broken connection, a failing service, an internal error
    /// and a failure without a kind prove nothing. A refusal proves nothing either if
    ///
    /// - `?` made it of a JSON or an IO error, which may come after the effect,
    /// - it is the last of several attempts further in,
    /// - a layer further in marks its outcome as unknown.
    ///
    /// Every layer uses this rule: `IdempotentTool` frees the key of such a call, and `CachedTool` invalidates nothing for it.
    ///
    /// ```
    /// use mcp_patterns::outcome;
    /// use turbomcp::McpError;
    ///
    /// let refused = Ok(McpError::permission_denied("Only for editors").to_tool_result());
    /// assert!(outcome::failure(&refused).unwrap().is_not_executed());
    ///
    /// let lost = Ok(McpError::timeout("The bank does not answer").to_tool_result());
    /// assert!(!outcome::failure(&lost).unwrap().is_not_executed());
    /// ```
    #[must_use]
    pub fn is_not_executed(&self) -> bool {
        not_executed::is_proven_by(self)
    }

    /// Says whether a layer further in has refused the call before it began: nothing behind that layer was asked.
    pub(crate) fn is_turned_away(&self) -> bool {
        turned_away::by_a_layer(self)
    }

    /// Says whether a connection was lost, and the effects of its commands are unknown.
    #[cfg(feature = "retry")]
    pub(crate) fn is_lost(&self) -> bool {
        not_executed::is_marked(self, &not_executed::LOST)
    }

    /// Says whether the failure is one of the server, and no answer to the call: temporary, or internal.
    #[cfg(feature = "cached")]
    pub(crate) fn is_outage(&self) -> bool {
        self.is_temporary() || self.kind() == Some(ErrorKind::Internal)
    }

    /// Says whether the failure asks for less load: rate limited or overloaded.
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        self.kind().is_some_and(is_throttling)
    }

    /// Returns the time that the failing side asked to wait (`retryAfterMs` in the error's data or in `_meta`). A number that no
    /// [`Duration`] can hold gives [`Duration::MAX`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let hint = self.data().and_then(|data| data.get(RETRY_AFTER_MS)).or_else(|| self.meta(RETRY_AFTER_MS))?;
        let Value::Number(millis) = hint else { return None };
        match millis.as_f64() {
            Some(millis) if millis < 0.0 => None,
            Some(millis) => Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(Duration::MAX)),
            // Longer than a double can say, if `serde_json` keeps such numbers.
            None => (!millis.to_string().starts_with('-')).then_some(Duration::MAX),
        }
    }

    /// Says whether a layer further in has already repeated the call and given up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.noted(EXHAUSTED).is_some()
    }

    /// Returns a value that a layer has [noted](note).
    pub(crate) fn noted(&self, key: &str) -> Option<&'a Value> {
        self.meta(key).or_else(|| self.data()?.get(key))
    }

    fn meta(&self, key: &str) -> Option<&'a Value> {
        match self.0 {
            Form::Error(_) => None,
            Form::Result(result) => result.meta.as_ref()?.get(key),
        }
    }
}

/// Adds `key` to the result's `_meta`, or to the error's data.
///
/// Data that is no object moves into the entry `data` of a new object.
pub(crate) fn note(result: &mut McpResult<ToolResult>, key: &str, value: impl Into<Value>) {
    match result {
        Ok(result) => {
            result.meta.get_or_insert_default().insert(key.to_owned(), value.into());
        }
        Err(error) => note_in(error, key, value),
    }
}

/// Adds `key` to the error's data, as [`note`] does.
pub(crate) fn note_in(error: &mut McpError, key: &str, value: impl Into<Value>) {
    let data = &mut error.context.get_or_insert_default().data;
    let mut entries = match data.take() {
        None => Map::new(),
        Some(Value::Object(entries)) => entries,
        Some(other) => Map::from_iter([("data".to_owned(), other)]),
    };
    entries.insert(key.to_owned(), value.into());
    *data = Some(Value::Object(entries));
}

/// Marks an error that a layer creates, to distinguish it from those of the server: `key` names the layer.
pub(crate) fn marked(key: &str, word: &str, mut error: McpError) -> McpError {
    note_in(&mut error, key, word);
    error
}

/// The error of a call whose work panicked, or whose runtime shut down.
pub(crate) fn aborted() -> McpError {
    McpError::internal("The call ended without a result")
}

/// The error of a call that was cancelled while it waited.
pub(crate) fn cancelled() -> McpError {
    McpError::cancelled("The call was cancelled")
}

/// The error of a call that timed out after `after`.
pub(crate) fn timed_out(after: Duration) -> McpError {
    McpError::timeout(format!("No answer within {} ms", after.as_millis()))
}

pub(crate) const fn is_temporary(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Transport | ErrorKind::ExternalService)
        || is_throttling(kind)
}

const fn is_throttling(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::RateLimited | ErrorKind::ServerOverloaded)
}
