use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, RequestContext};

use super::{IDEMPOTENCY, KeySpace, Origin};
use crate::canonical::{encode, encode_str, sha256};
use crate::key_hash::KeyHash;
use crate::scope::Scoped;

/// How many digits of an id belong to the server, so that its calls are found among those of others.
pub(super) const SPACE: usize = 16;

/// How many of the following digits belong to the caller.
pub(super) const CALLER: usize = 16;

/// A call with a key, as backends know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(hidden)]
pub struct CallKey {
    /// The hash of namespace, server, version, caller, tool and key: others on the same backend cannot read who called. It begins with a
    /// part of the hash of the server, and of the caller, by which calls are listed.
    pub(crate) id: String,
    /// The hash of the arguments: the same key with other arguments is another call.
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
        let mut encoded = Vec::with_capacity(BYTES);
        encode_space(space, version, &mut encoded);
        let mut id = sha256(&encoded);
        id.truncate(SPACE);
        let caller = encoded.len();
        space.identity.caller(ctx).encode(&mut encoded);
        let origin = Origin::new(&encoded[caller..], ctx);
        id.push_str(&sha256(&encoded)[..CALLER]);
        [tool, &key].iter().for_each(|part| encode_str(part, &mut encoded));
        id.push_str(&sha256(&encoded));
        encoded.clear();
        encode(args, &mut encoded);
        Self { id, fingerprint: sha256(&encoded), tool: tool.to_owned(), key, origin }
    }

    /// The digits that represent the key in the log: those of the id that belong to this call, from the thirty-third
    /// on.
    pub(crate) fn hash(&self) -> KeyHash {
        hash(&self.id)
    }

    /// The answer to a call whose key was used for another one.
    pub(crate) fn refused(&self) -> McpError {
        McpError::invalid_params(format!(
            "The idempotency key `{}` was used for a call with other arguments: choose a new key for a new call",
            self.key
        ))
        .with_data(json!({ IDEMPOTENCY: "key_reused" }))
    }

    /// The answer to a call that may have taken effect.
    pub(crate) fn ambiguous(&self, id: &str) -> McpError {
        McpError::internal(format!(
            "An earlier call with the idempotency key `{}` ended without an answer: it may or may not have taken effect. It is not \
             made again. Find out whether it took effect before you call with a new key (error {id})",
            self.key
        ))
        .with_data(json!({ IDEMPOTENCY: "ambiguous" }))
    }

    /// The last answer to a call that may have taken effect, if it was not resolved in time.
    pub(crate) fn unresolved(&self, id: &str) -> McpError {
        McpError::internal(format!(
            "A call with the idempotency key `{}` ended without an answer, and it is still not known whether it took effect. This \
             answer is final: the call is never made under this key. Call with a new key only if you know that nothing happened \
             (error {id})",
            self.key
        ))
        .with_data(json!({ IDEMPOTENCY: "unresolved" }))
    }

    /// The answer to a call while the first one with its key is running.
    pub(crate) fn in_progress(&self, retry_after: Duration) -> McpError {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        McpError::unavailable(format!("A call with the idempotency key `{}` is in progress", self.key))
            .with_data(json!({ IDEMPOTENCY: "in_progress", "retryAfterMs": millis }))
    }
}

impl Scoped for CallKey {
    fn keyed_call(&self) -> Option<(&str, KeyHash)> {
        Some((&self.tool, self.hash()))
    }
}

pub(super) fn hash(id: &str) -> KeyHash {
    KeyHash::new(id.get(SPACE + CALLER..).unwrap_or_default())
}

/// The digits with which the ids of a server's calls begin.
pub(super) fn space_id(space: &KeySpace, version: &str) -> String {
    let mut encoded = Vec::new();
    encode_space(space, version, &mut encoded);
    let mut id = sha256(&encoded);
    id.truncate(SPACE);
    id
}

/// The digits that follow in the ids of a caller's calls.
pub(super) fn caller_id(space: &KeySpace, version: &str, ctx: &RequestContext) -> String {
    let mut encoded = Vec::new();
    encode_space(space, version, &mut encoded);
    space.identity.caller(ctx).encode(&mut encoded);
    let mut id = sha256(&encoded);
    id.truncate(CALLER);
    id
}

fn encode_space(space: &KeySpace, version: &str, encoded: &mut Vec<u8>) {
    let namespace = space.namespace.as_deref().unwrap_or_default();
    [namespace, &space.server, version].iter().for_each(|part| encode_str(part, encoded));
}
