//! Calls that have no answer yet.

use serde_json::{Value, json};
use turbomcp_core::{ErrorKind, McpError};

/// Entry of an error's data: the call has no answer yet. Its value is an object with the reason, and what the client gets.
pub(crate) const UNFINISHED: &str = "mcp-patterns/unfinished";

/// Why a call has no answer yet.
///
/// A tool or a handler of your own states it with an error:
///
/// ```
/// use mcp_patterns::outcome::{self, Unfinished};
///
/// let asks = Err(Unfinished::InputRequired.into_error("Choose an account first"));
/// let failure = outcome::failure(&asks).unwrap();
/// assert_eq!(failure.unfinished(), Some(Unfinished::InputRequired));
/// assert!(!failure.is_temporary());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfinished {
    /// The client makes the call again, with its answers to the questions in the answer. The call has taken no effect: it frees its
    /// idempotency key, and its transaction is rolled back.
    InputRequired,
    /// A task continues the call, and has the result later. The task is the answer for the call's idempotency key. A transaction cannot
    /// contain it, and is rolled back.
    Task,
}

impl Unfinished {
    /// Creates the error of a call that has no answer yet. `message` is for a client that cannot continue the call.
    #[must_use]
    pub fn into_error(self, message: impl Into<String>) -> McpError {
        self.with_answer(message, &Value::Null)
    }

    /// Creates the error with what the client gets in place of an answer.
    pub(crate) fn with_answer(self, message: impl Into<String>, answer: &Value) -> McpError {
        let (kind, reason) = match self {
            Self::InputRequired => (ErrorKind::UrlElicitationRequired, "input_required"),
            // Not a refusal: the task may take effect.
            Self::Task => (ErrorKind::ToolExecutionFailed, "task"),
        };
        McpError::new(kind, message).with_data(json!({ UNFINISHED: { "reason": reason, "answer": answer } }))
    }

    pub(super) fn of(data: &Value) -> Option<Self> {
        match data.get(UNFINISHED)?.get("reason")?.as_str()? {
            "input_required" => Some(Self::InputRequired),
            "task" => Some(Self::Task),
            _ => None,
        }
    }

    /// Takes what the client gets out of the error.
    #[cfg(feature = "rmcp")]
    pub(crate) fn take_answer(error: &mut McpError) -> Option<(Self, Value)> {
        let reason = Self::of(error.data()?)?;
        let answer = error.context.as_mut()?.data.as_mut()?.get_mut(UNFINISHED)?.get_mut("answer")?.take();
        (!answer.is_null()).then_some((reason, answer))
    }
}
