//! What makes two requests the same request.

use serde_json::Value;

use super::domain::domain;
use crate::canonical::{encode, encode_str};
use crate::identity::Partition;

/// What is asked for. A tool, a resource and a prompt of the same name have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tool,
    Resource,
    Prompt,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
        }
    }
}

/// Namespace, server, version, kind, caller, the caller's rights, name and arguments, written so that two requests have equal keys exactly if they are the same
/// request.
///
/// The whole request is compared, not a hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    bytes: Vec<u8>,
}

/// The part of the key that is the same for all requests of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPrefix {
    kind: Kind,
    bytes: Vec<u8>,
}

impl KeyPrefix {
    pub(super) fn new(kind: Kind, namespace: &str, server: &str, version: &str) -> Self {
        let mut bytes = Vec::new();
        [namespace, server, version, kind.word()].iter().for_each(|part| encode_str(part, &mut bytes));
        Self { kind, bytes }
    }
}

impl CallKey {
    /// Returns the key of a request, and what invalidates it: see [`group_domain`] and [`call_domain`].
    pub(super) fn new(prefix: &KeyPrefix, caller: &Partition<'_>, name: &str, args: &Value) -> (Self, [u64; 2]) {
        /// Enough for most requests, so that a key is one allocation.
        const ARGUMENTS: usize = 96;
        let mut bytes = Vec::with_capacity(prefix.bytes.len() + caller.size_hint() + name.len() + ARGUMENTS);
        bytes.extend_from_slice(&prefix.bytes);
        caller.encode_with_rights(&mut bytes);
        encode_str(name, &mut bytes);
        let start = bytes.len();
        encode(args, &mut bytes);
        let domains = [group_domain(prefix.kind, name), of_canonical(prefix.kind, name, &bytes[start..])];
        (Self { bytes }, domains)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// What invalidates many at once: all calls of a tool, a prompt whatever its arguments, all resources.
pub(super) fn group_domain(kind: Kind, name: &str) -> u64 {
    match kind {
        Kind::Tool | Kind::Prompt => domain([kind.word().as_bytes(), name.as_bytes()]),
        Kind::Resource => domain([kind.word().as_bytes()]),
    }
}

/// What invalidates one: a call, whoever makes it.
pub(super) fn call_domain(kind: Kind, name: &str, args: &Value) -> u64 {
    let mut canonical = Vec::new();
    encode(args, &mut canonical);
    of_canonical(kind, name, &canonical)
}

/// What invalidates one resource, whoever reads it.
pub(super) fn resource_domain(uri: &str) -> u64 {
    call_domain(Kind::Resource, uri, &Value::Null)
}

fn of_canonical(kind: Kind, name: &str, args: &[u8]) -> u64 {
    domain([kind.word().as_bytes(), name.as_bytes(), args])
}

/// What `invalidate_tag` invalidates. It is no domain of a tool, a resource or a prompt, whatever they are called.
pub(super) fn tag_domain(tag: &str) -> u64 {
    domain([b"tag", tag.as_bytes()])
}
