//! What makes two calls the same call.

use serde_json::Value;

use super::domain::domain;
use crate::canonical::{encode, encode_str};
use crate::identity::Partition;

/// Server, version, tool, caller and arguments, written so that two calls have equal keys exactly if they are the same call.
///
/// The whole call is compared, not a hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    bytes: Vec<u8>,
}

/// The part of the key that is the same for all calls of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPrefix(Vec<u8>);

impl KeyPrefix {
    pub(super) fn new(server: &str, version: &str, tool: &str) -> Self {
        let mut prefix = Vec::new();
        [server, version, tool].iter().for_each(|part| encode_str(part, &mut prefix));
        Self(prefix)
    }
}

impl CallKey {
    /// Returns the key of a call, and what invalidates it: see [`call_domain`].
    pub(super) fn new(prefix: &KeyPrefix, caller: &Partition<'_>, tool: &str, args: &Value) -> (Self, u64) {
        /// Enough for most calls, so that a key is one allocation.
        const ARGUMENTS: usize = 128;
        let mut bytes = Vec::with_capacity(prefix.0.len() + ARGUMENTS);
        bytes.extend_from_slice(&prefix.0);
        caller.encode(&mut bytes);
        let start = bytes.len();
        encode(args, &mut bytes);
        let call = domain([tool.as_bytes(), &bytes[start..]]);
        (Self { bytes }, call)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// What `invalidate_tool` invalidates.
pub(super) fn tool_domain(tool: &str) -> u64 {
    domain([tool.as_bytes()])
}

/// What `invalidate` invalidates: a call, whoever makes it.
pub(super) fn call_domain(tool: &str, args: &Value) -> u64 {
    let mut canonical = Vec::new();
    encode(args, &mut canonical);
    domain([tool.as_bytes(), &canonical])
}

/// What `invalidate_tag` invalidates. It is no domain of a tool or a call, whatever they are called.
pub(super) fn tag_domain(tag: &str) -> u64 {
    domain([b"tag", b"", tag.as_bytes()])
}
