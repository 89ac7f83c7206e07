use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, RequestContext};

use super::{IDEMPOTENCY, KeySpace, Origin};
use crate::canonical::{encode, encode_str, sha256};

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
    pub(crate) origin: Origin,
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
        let caller = id.len();
        space.identity.caller(ctx).encode(&mut id);
        let mut arguments = Vec::new();
        encode(args, &mut arguments);
        let origin = Origin::new(&id[caller..], ctx);
        Self { id: sha256(&id), fingerprint: sha256(&arguments), tool: tool.to_owned(), key, origin }
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
