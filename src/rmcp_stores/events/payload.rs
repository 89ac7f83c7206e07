//! Events as text. What rmcp sent is read back with every field, also those that its types do not know.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, RequestId, ServerJsonRpcMessage, ServerNotification,
    ServerRequest, ServerResult,
};
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::AskedBy;
use super::{EventLogError, KeptEvent};
use crate::clock::millis;

/// The end of the id that rmcp gives to the stream of a session that belongs to no request. An answer on it does not end it.
const COMMON: &str = ":common";

/// The data of the event that marks an abandoned stream. It is the last one of its stream. All other events have more data.
pub(super) const ABANDONED: &str = "";

#[derive(Serialize, Deserialize)]
struct Payload<'a, M> {
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    message: Option<M>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    /// Whether the stream ends with this event.
    #[serde(default)]
    is_last: bool,
    /// The process that writes the stream, if it has a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Cow<'a, str>>,
}

fn none<M>() -> Option<M> {
    None
}

/// Says whether a stream is that of a request.
pub(super) fn is_of_request(stream_id: &str) -> bool {
    !stream_id.ends_with(COMMON)
}

pub(super) fn is_answer(event: &ServerSseMessage) -> bool {
    matches!(event.message.as_deref(), Some(ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)))
}

pub(super) fn encode(stream_id: &str, event: &ServerSseMessage, owner: Option<&str>) -> Result<String, EventLogError> {
    let payload = Payload {
        message: event.message.as_deref(),
        retry_ms: event.retry.map(millis),
        is_last: is_answer(event) && is_of_request(stream_id),
        owner: owner.map(Cow::Borrowed),
    };
    serde_json::to_string(&payload).map_err(EventLogError::backend)
}

/// An event that was read.
pub(super) struct Decoded {
    pub(super) event: ServerSseMessage,
    /// Whether its stream ends with it.
    pub(super) is_last: bool,
    /// The process that writes the stream, if it has a lease.
    pub(super) owner: Option<String>,
}

/// Reads an event for the client that asked `request`.
pub(super) fn decode(event: KeptEvent, request: Option<&AskedBy>) -> Result<Decoded, EventLogError> {
    let id = |id| request.map_or_else(|| String::clone(&id), |request| request.mark(&id));
    if event.data == ABANDONED {
        let mut read = ServerSseMessage::default();
        read.message = request.map(|request| Arc::new(request.outcome_unknown()));
        read.event_id = Some(id(event.id));
        return Ok(Decoded { event: read, is_last: true, owner: None });
    }
    let payload: Payload<'_, Value> = serde_json::from_str(&event.data).map_err(|_| EventLogError::Unreadable)?;
    let mut read = ServerSseMessage::default();
    read.event_id = Some(id(event.id));
    read.message = payload.message.map(message).transpose()?.map(Arc::new);
    read.retry = payload.retry_ms.map(Duration::from_millis);
    Ok(Decoded { event: read, is_last: payload.is_last, owner: payload.owner.map(Cow::into_owned) })
}

/// Reads a message so that it is written as it was. Where one of rmcp's types would change it (they drop fields that they do not know,
/// and a result can be taken for one of another type), it becomes one of rmcp's custom kinds, which keep all fields.
fn message(message: Value) -> Result<ServerJsonRpcMessage, EventLogError> {
    if let Ok(typed) = serde_json::from_value::<ServerJsonRpcMessage>(message.clone())
        && serde_json::to_value(&typed).is_ok_and(|written| written == message)
    {
        return Ok(typed);
    }
    custom(message)
}

fn custom(message: Value) -> Result<ServerJsonRpcMessage, EventLogError> {
    let Value::Object(mut fields) = message else { return Err(EventLogError::Unreadable) };
    let id = |id: Option<Value>| -> Result<RequestId, EventLogError> {
        serde_json::from_value(id.unwrap_or_default()).map_err(|_| EventLogError::Unreadable)
    };
    if let Some(result) = fields.remove("result") {
        let result = ServerResult::CustomResult(CustomResult::new(result));
        return Ok(ServerJsonRpcMessage::response(result, id(fields.remove("id"))?));
    }
    let params = fields.remove("params");
    match (fields.remove("method"), fields.remove("id")) {
        (Some(Value::String(method)), None) => Ok(ServerJsonRpcMessage::notification(
            ServerNotification::CustomNotification(CustomNotification::new(method, params)),
        )),
        (Some(Value::String(method)), given) => {
            let request = ServerRequest::CustomRequest(CustomRequest::new(method, params));
            Ok(ServerJsonRpcMessage::request(request, id(given)?))
        }
        (_, given) => {
            let error = fields.remove("error").unwrap_or_default();
            let error = serde_json::from_value(error).map_err(|_| EventLogError::Unreadable)?;
            let given = given.map(|given| id(Some(given))).transpose()?;
            Ok(ServerJsonRpcMessage::error(error, given))
        }
    }
}
