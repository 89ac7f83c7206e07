//! The id of a request in the ids of the events of its stream.
//!
//! rmcp tells an event store no id of a request, and a client sends only the id of an event when it resumes. So a client keeps both for us.

use rmcp::ErrorData;
use rmcp::model::{RequestId, ServerJsonRpcMessage};
use serde_json::json;

/// Separates the id of an event from that of its request. No id of an event contains it.
const SEPARATOR: char = '~';

/// The longest id of a request that is kept in an id of an event.
const MAX_LENGTH: usize = 128;

/// The request to which a stream belongs, as the client said when it resumed.
#[derive(Debug, Clone)]
pub(super) struct AskedBy {
    request: RequestId,
}

impl AskedBy {
    /// Splits the id of an event. `None` if it is malformed.
    pub(super) fn split(event_id: &str) -> Option<(&str, Option<Self>)> {
        let Some((id, request)) = event_id.split_once(SEPARATOR) else { return Some((event_id, None)) };
        let request = serde_json::from_str(request).ok()?;
        Some((id, Some(Self { request })))
    }

    pub(super) fn mark(&self, event_id: &str) -> String {
        mark(event_id, &self.request).unwrap_or_else(|| event_id.to_owned())
    }

    /// The answer to a request whose server has died.
    pub(super) fn outcome_unknown(&self) -> ServerJsonRpcMessage {
        let text = "the server died during the call: it is not known whether the call took effect";
        let error = ErrorData::internal_error(text, Some(json!({ "mcp-patterns/rmcp": "outcome_unknown" })));
        ServerJsonRpcMessage::error(error, Some(self.request.clone()))
    }
}

/// Returns the id of an event with that of its request, or `None` if the id of the request does not fit into a header.
pub(in crate::rmcp_stores) fn mark(event_id: &str, request: &RequestId) -> Option<String> {
    let request = serde_json::to_string(request).ok()?;
    let fits = request.len() <= MAX_LENGTH && request.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| format!("{event_id}{SEPARATOR}{request}"))
}
