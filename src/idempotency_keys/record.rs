//! The record of an answer, and its use for a replay.

use serde_json::{Value, json};
#[cfg(feature = "idempotent")]
use turbomcp_core::McpError;
use turbomcp_core::McpResult;
use turbomcp_types::ToolResult;

use super::{CallKey, IDEMPOTENCY, OTHER_CONNECTION};
use crate::outcome;

/// The connection that an answer was given over.
const CONNECTION: &str = "connection";

/// Writes an answer in either form, so that a replay has the form, the kind and the data of the first answer, and the connection that
/// it was given over, if it is known.
pub(crate) fn to_record(result: &McpResult<ToolResult>, connection: Option<&str>) -> Option<String> {
    let mut record = match result {
        Ok(result) => json!({ "ok": result }),
        Err(error) => json!({ "err": error }),
    };
    if let Some(connection) = connection {
        record[CONNECTION] = connection.into();
    }
    serde_json::to_string(&record).ok()
}

/// The record of a call that has ended, without its answer, which has no room.
#[cfg(feature = "idempotent")]
pub(crate) fn record_without_answer() -> String {
    let error = McpError::internal(
        "An earlier call with this idempotency key has ended, and its answer was too large to be kept. The call is not made again. Do \
         not call with a new key unless you want another effect",
    )
    .with_data(json!({ IDEMPOTENCY: "answer_not_kept" }));
    json!({ "ok": error.to_tool_result() }).to_string()
}

/// Reads what [`to_record`] wrote, for a later call. Marked if the layer has `emit_meta`: as a replay, and as one over another connection than
/// the first answer.
pub(crate) fn from_record(record: &str, call: &CallKey, emit_meta: bool) -> Option<McpResult<ToolResult>> {
    let Value::Object(mut record) = serde_json::from_str(record).ok()? else { return None };
    let mut result = match (record.remove("ok"), record.remove("err")) {
        (Some(result), None) => Ok(serde_json::from_value(result).ok()?),
        (None, Some(error)) => Err(serde_json::from_value(error).ok()?),
        _ => return None,
    };
    if emit_meta {
        outcome::note(&mut result, IDEMPOTENCY, "replayed");
        let first = record.get(CONNECTION).and_then(Value::as_str);
        if first.is_some() && first != call.origin.connection.as_deref() {
            outcome::note(&mut result, OTHER_CONNECTION, true);
        }
    }
    Some(result)
}
