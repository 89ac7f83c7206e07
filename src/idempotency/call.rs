use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::{IDEMPOTENCY, KeySpace};
use crate::canonical::{encode, encode_str, sha256};
use crate::outcome;

/// A call with a key, as stores know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(hidden)]
pub struct CallKey {
    /// Namespace, server, version, caller, tool and key, hashed: who shares a store need not learn who called.
    pub(crate) id: String,
    /// The arguments, hashed: the same key with other arguments is another call.
    pub(crate) fingerprint: String,
    pub(crate) tool: String,
    pub(crate) key: String,
}

impl CallKey {
    pub(super) fn new(
        space: &KeySpace,
        version: &str,
        tool: &str,
        key: String,
        args: &Value,
        ctx: &RequestContext,
    ) -> Self {
        /// Enough for most calls.
        const BYTES: usize = 256;
        let mut id = Vec::with_capacity(BYTES);
        let namespace = space.namespace.as_deref().unwrap_or_default();
        [namespace, &space.server, version, tool, &key].iter().for_each(|part| encode_str(part, &mut id));
        space.identity.caller(ctx).encode(&mut id);
        let mut arguments = Vec::new();
        encode(args, &mut arguments);
        Self { id: sha256(&id), fingerprint: sha256(&arguments), tool: tool.to_owned(), key }
    }

    /// The answer to a call whose key was used for another one.
    pub(crate) fn refused(&self) -> McpError {
        McpError::invalid_params(format!(
            "The idempotency key `{}` was used for a call with other arguments: choose a new key for a new call",
            self.key
        ))
        .with_data(json!({ IDEMPOTENCY: "key_reused" }))
    }

    /// The answer to a call while the first one with its key is running.
    pub(crate) fn in_progress(&self, retry_after: Duration) -> McpError {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        McpError::unavailable(format!("A call with the idempotency key `{}` is in progress", self.key))
            .with_data(json!({ IDEMPOTENCY: "in_progress", "retryAfterMs": millis }))
    }
}

/// What is kept of an answer: either form, so that a replay has the form, the kind and the data of the first answer.
pub(crate) fn to_record(result: &McpResult<ToolResult>) -> Option<String> {
    let record = match result {
        Ok(result) => json!({ "ok": result }),
        Err(error) => json!({ "err": error }),
    };
    serde_json::to_string(&record).ok()
}

/// Reads what [`to_record`] wrote, and marks it if the layer tells.
pub(crate) fn from_record(record: &str, tells: bool) -> Option<McpResult<ToolResult>> {
    let record: Value = serde_json::from_str(record).ok()?;
    let mut result = match record {
        Value::Object(mut record) => match (record.remove("ok"), record.remove("err")) {
            (Some(result), None) => Ok(serde_json::from_value(result).ok()?),
            (None, Some(error)) => Err(serde_json::from_value(error).ok()?),
            _ => return None,
        },
        _ => return None,
    };
    if tells {
        outcome::note(&mut result, IDEMPOTENCY, "replayed");
    }
    Some(result)
}
