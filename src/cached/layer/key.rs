//! The key of a request.

use std::borrow::Cow;

use serde_json::Value;

use crate::cached::first_level::invalidation_key::{InvalidationKey, Target, hash};
use crate::canonical::{encode, encode_str};
use crate::identity::Partition;
use crate::percent;

/// The kind of a request. A tool, a resource and a prompt of the same name are unrelated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cached) enum Kind {
    Tool,
    Resource,
    Prompt,
}

impl Kind {
    pub(in crate::cached) const fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
        }
    }
}

/// Namespace, server, version, kind, caller, the rights of the caller, name and arguments, encoded so that two requests have equal keys
/// exactly if they are the same request.
///
/// The whole request is compared, not a hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::cached) struct CallKey {
    bytes: Vec<u8>,
}

/// The part of the key that is the same for all requests of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cached) struct KeyPrefix {
    kind: Kind,
    /// The key that invalidates them all, or `None` if it depends on the name.
    group: Option<InvalidationKey>,
    bytes: Vec<u8>,
}

impl KeyPrefix {
    /// The prefix for a tool, for all resources or, with no `name`, for all prompts.
    pub(in crate::cached) fn new(kind: Kind, name: Option<&str>, namespace: &str, server: &str, version: &str) -> Self {
        let mut bytes = Vec::new();
        [namespace, server, version, kind.word()].iter().for_each(|part| encode_str(part, &mut bytes));
        let group = match kind {
            Kind::Tool | Kind::Prompt => name.map(|name| group_key(kind, name)),
            Kind::Resource => Some(group_key(kind, "")),
        };
        Self { kind, group, bytes }
    }
}

impl CallKey {
    /// Returns the key of a request, and the keys that invalidate it: see [`group_key`] and [`call_key`]. The bytes that `of_layers`
    /// appends separate requests that are invalidated together.
    pub(in crate::cached) fn new(
        prefix: &KeyPrefix,
        caller: &Partition<'_>,
        name: &str,
        args: &Value,
        of_layers: impl FnOnce(&mut Vec<u8>),
    ) -> (Self, [InvalidationKey; 2]) {
        /// Enough for most requests, so that a key is one allocation.
        const ARGUMENTS: usize = 96;
        let mut bytes = Vec::with_capacity(prefix.bytes.len() + caller.size_hint() + name.len() + ARGUMENTS);
        bytes.extend_from_slice(&prefix.bytes);
        caller.encode_with_rights(&mut bytes);
        encode_str(name, &mut bytes);
        let start = bytes.len();
        encode(args, &mut bytes);
        let group = prefix.group.unwrap_or_else(|| group_key(prefix.kind, name));
        let keys = [group, of_canonical(prefix.kind, name, &bytes[start..])];
        of_layers(&mut bytes);
        (Self { bytes }, keys)
    }

    pub(in crate::cached) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::cached) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The key that invalidates many entries: all calls of a tool, a prompt with any arguments, all resources.
pub(in crate::cached) fn group_key(kind: Kind, name: &str) -> InvalidationKey {
    match kind {
        Kind::Tool | Kind::Prompt => {
            InvalidationKey::new(Target::Group, hash([kind.word().as_bytes(), name.as_bytes()]))
        }
        Kind::Resource => all_key(kind),
    }
}

/// The key that invalidates all resources, or all prompts.
pub(in crate::cached) fn all_key(kind: Kind) -> InvalidationKey {
    InvalidationKey::new(Target::Group, hash([kind.word().as_bytes()]))
}

/// The key that invalidates one call, for all callers.
pub(in crate::cached) fn call_key(kind: Kind, name: &str, args: &Value) -> InvalidationKey {
    let mut canonical = Vec::new();
    encode(args, &mut canonical);
    of_canonical(kind, name, &canonical)
}

/// The key that invalidates one resource, for all callers.
pub(in crate::cached) fn resource_key(uri: &str) -> InvalidationKey {
    call_key(Kind::Resource, uri, &Value::Null)
}

fn of_canonical(kind: Kind, name: &str, args: &[u8]) -> InvalidationKey {
    let name = match kind {
        Kind::Tool | Kind::Prompt => Cow::Borrowed(name.as_bytes()),
        Kind::Resource => folded(name),
    };
    InvalidationKey::new(Target::Entry, hash([kind.word().as_bytes(), &name, args]))
}

/// A URI in the form in which it is invalidated: with its escapes resolved, in lower case. URIs that a server may take for the same
/// resource are invalidated together. If it does not, that costs a load.
fn folded(uri: &str) -> Cow<'_, [u8]> {
    let mut folded = percent::decoded(uri);
    if folded.iter().any(u8::is_ascii_uppercase) {
        folded.to_mut().make_ascii_lowercase();
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_uris_are_invalidated_together() {
        let same = ["users://7a%2fB c", "USERS://7A%2Fb%20c", "users://7a/b%20C", "users://%37a/b c"];
        same.iter().for_each(|uri| assert_eq!(resource_key(uri), resource_key(same[0]), "{uri}"));
        for other in ["users://7a", "users://7a/b%20", "users://7a/b%2c", "users://7a/b%", "users://7a/b%zz", "é"] {
            assert_ne!(resource_key(other), resource_key(same[0]), "{other}");
        }
        assert_ne!(resource_key("a%"), resource_key("a%2"), "half an escape is what it is");
    }

    #[test]
    fn names_that_are_not_uris_are_not_normalized() {
        assert_ne!(call_key(Kind::Tool, "A", &Value::Null), call_key(Kind::Tool, "a", &Value::Null));
        assert_ne!(call_key(Kind::Prompt, "%41", &Value::Null), call_key(Kind::Prompt, "A", &Value::Null));
    }

    #[test]
    fn the_key_of_all_prompts_is_not_the_key_of_a_prompt() {
        assert_ne!(all_key(Kind::Prompt), group_key(Kind::Prompt, ""));
        assert_ne!(all_key(Kind::Prompt), all_key(Kind::Resource));
    }
}
