//! How a call ended, as its result says it.

use serde::Serialize;
use serde_json::Value;
use turbomcp_core::{ErrorKind, McpResult};
use turbomcp_types::ToolResult;

use super::text::bounded;
use crate::idempotency_keys::IDEMPOTENCY;
use crate::outcome::{self, ATTEMPTS, CACHE, EXHAUSTED, Failure, Unfinished};

/// How a call ended, as the layer returned it.
///
/// Its word in an [`Event`](super::Event) is its name in snake case, such as `timed_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The tool answered.
    Answered,
    /// A cache answered.
    Hit,
    /// A cache answered with an answer that has expired.
    Stale,
    /// The answer is that of an earlier call with the same idempotency key.
    Replayed,
    /// The call has no answer yet: the client must answer a question first, or a task continues the call.
    Unfinished,
    /// A layer refused the call, or what its tool asked a layer for, such as a session. Nothing was done. The event has the layer and the
    /// reason.
    Refused,
    /// The call failed.
    Failed,
    /// The call ended because the caller cancelled it.
    Cancelled,
    /// A layer stopped waiting for the tool, or for its turn.
    TimedOut,
    /// The caller left without an answer: the call was dropped, by the transport or by a layer further out.
    Left,
    /// The call panicked.
    Panicked,
}

impl End {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Unfinished => "unfinished",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Left => "left",
            Self::Panicked => "panicked",
        }
    }
}

/// The end of a call, with its details.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    pub(super) end: End,
    /// The layer that refused the call, or ended it, and why.
    pub(super) layer: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) kind: Option<ErrorKind>,
    pub(super) attempts: Option<u64>,
}

/// The beginning of the names of all marks.
const PREFIX: &str = "mcp-patterns/";

/// The marks with a word that is no reason.
const NO_REASONS: [&str; 2] = [EXHAUSTED, "mcp-patterns/source"];

/// The mark of the validation. Its reasons are words, but for arguments that are not valid: these are listed.
const VALIDATION: &str = "mcp-patterns/validation";

impl Ending {
    /// An end without a result.
    pub(super) const fn without_result(end: End) -> Self {
        Self { end, layer: None, reason: None, kind: None, attempts: None }
    }

    /// Reads the marks that layers have left in a result.
    pub(super) fn of(result: &McpResult<ToolResult>) -> Self {
        let Some(failure) = outcome::failure(result) else {
            let meta = |key: &str| result.as_ref().ok()?.meta.as_ref()?.get(key);
            let attempts = meta(ATTEMPTS).and_then(Value::as_u64);
            return Self { attempts, ..Self::without_result(success(meta(CACHE), meta(IDEMPOTENCY))) };
        };
        let (kind, attempts) = (failure.kind(), failure.noted(ATTEMPTS).and_then(Value::as_u64));
        if let Some(unfinished) = failure.unfinished() {
            let reason = match unfinished {
                Unfinished::InputRequired => "input_required",
                Unfinished::Task => "task",
            };
            return Self { reason: Some(reason.to_owned()), attempts, ..Self::without_result(End::Unfinished) };
        }
        let refusal = refusal(&failure);
        let end = match &refusal {
            Some((_, "timed_out")) => End::TimedOut,
            Some((_, "cancelled")) => End::Cancelled,
            _ if kind == Some(ErrorKind::Cancelled) => End::Cancelled,
            Some(_) if failure.is_not_executed() => End::Refused,
            _ => End::Failed,
        };
        let (layer, reason) = refusal.or_else(|| origin(&failure)).unzip();
        Self { end, layer: layer.map(bounded), reason: reason.map(bounded), kind, attempts }
    }
}

fn success(cache: Option<&Value>, key: Option<&Value>) -> End {
    match cache.and_then(|cache| cache.get("status")?.as_str()) {
        Some("hit") => End::Hit,
        Some("stale") => End::Stale,
        _ if key.is_some_and(|word| word == "replayed") => End::Replayed,
        _ => End::Answered,
    }
}

/// Returns the layer that made the error, and its reason. Of several, the first one in the alphabet: an object may have any order.
fn refusal<'a>(failure: &Failure<'a>) -> Option<(&'a str, &'a str)> {
    let marks = failure.data()?.as_object()?.iter().filter(|(key, _)| !NO_REASONS.contains(&key.as_str()));
    marks
        .filter_map(|(key, reason)| {
            let layer = key.strip_prefix(PREFIX)?;
            match reason {
                // The failure is that of the tool. A protocol error has the note among its data.
                Value::String(note) if key == IDEMPOTENCY && note == "replayed" => None,
                Value::String(reason) => Some((layer, reason.as_str())),
                Value::Object(listed) if key == VALIDATION && listed.contains_key("violations") => {
                    Some((layer, "invalid"))
                }
                _ => None,
            }
        })
        .min()
}

/// Returns the layer that had kept the failure, or does not know what became of the call.
fn origin<'a>(failure: &Failure<'a>) -> Option<(&'a str, &'a str)> {
    let status = failure.noted(CACHE).and_then(|cache| cache.get("status")?.as_str());
    if let Some(status @ ("hit" | "stale")) = status {
        return Some(("cache", status));
    }
    match failure.noted(IDEMPOTENCY).and_then(Value::as_str) {
        Some(word @ ("replayed" | "ambiguous")) => Some(("idempotency", word)),
        _ => None,
    }
}
