//! The rights of a caller, in a form that does not depend on their order in a token.

use serde_json::Value;
use turbomcp_core::Principal;

use super::Identity;
use super::partition::END;
use crate::canonical::{encode, encode_str};

/// The claims that list rights in words between spaces, if they are strings: RFC 6749, section 3.3.
fn is_in_words(claim: &str) -> bool {
    matches!(claim, "scope" | "scp" | "scopes")
}

impl Identity {
    fn names_rights(&self, claim: &str) -> bool {
        is_in_words(claim)
            || matches!(
                claim,
                // The names of RFC 9068 and RFC 9396, the plain words, and the names of Auth0, Microsoft Entra, Cognito
                // and Keycloak.
                "roles"
                    | "groups"
                    | "entitlements"
                    | "authorization_details"
                    | "role"
                    | "authorities"
                    | "permissions"
                    | "wids"
                    | "cognito:groups"
                    | "realm_access"
                    | "resource_access"
            )
            || self.0.rights_claims.contains(claim)
    }

    /// Appends the rights of a principal to a key: each non-empty list with its name, so that a role never equals a
    /// scope.
    pub(super) fn encode_rights(&self, principal: Option<&Principal>, key: &mut Vec<u8>) {
        if let Some(principal) = principal {
            if !principal.roles.is_empty() {
                // No encoded string, such as the name of a claim, begins with it.
                key.push(b'r');
                encode_words(principal.roles.iter().map(String::as_str), key);
            }
            for (name, value) in principal.claims.iter().filter(|(name, _)| self.names_rights(name)) {
                let before = key.len();
                encode_str(name, key);
                let start = key.len();
                match value {
                    Value::Null => {}
                    Value::String(words) if is_in_words(name) => encode_words(words.split_ascii_whitespace(), key),
                    Value::Array(items) => encode_set(items, key),
                    // A single right is a list of one.
                    value => encode_set(std::slice::from_ref(value), key),
                }
                if matches!(key[start..], [] | [END]) {
                    key.truncate(before);
                }
            }
        }
        key.push(END);
    }
}

/// Appends words, each once and in order, and an end.
fn encode_words<'a>(words: impl Iterator<Item = &'a str> + Clone, key: &mut Vec<u8>) {
    /// This many are sorted without an allocation.
    const FEW: usize = 32;
    let mut few = [""; FEW];
    let mut many = Vec::new();
    let count = words.clone().count();
    let words = if count <= FEW {
        few.iter_mut().zip(words).for_each(|(place, word)| *place = word);
        &mut few[..count]
    } else {
        many.extend(words);
        &mut many[..]
    };
    words.sort_unstable();
    for (at, word) in words.iter().enumerate() {
        if at == 0 || words[at - 1] != *word {
            encode_str(word, key);
        }
    }
    key.push(END);
}

/// Appends the items of a list, each once and in a canonical order, and an end.
fn encode_set(items: &[Value], key: &mut Vec<u8>) {
    let words = items.iter().map_while(Value::as_str);
    if words.clone().count() == items.len() {
        return encode_words(words, key);
    }
    let mut items: Vec<_> = items
        .iter()
        .map(|item| {
            let mut bytes = Vec::new();
            encode_unordered(item, &mut bytes);
            bytes
        })
        .collect();
    items.sort_unstable();
    items.dedup();
    items.iter().for_each(|item| key.extend_from_slice(item));
    key.push(END);
}

/// Appends a value in which no list has an order, at any depth.
fn encode_unordered(value: &Value, key: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            key.push(b'[');
            encode_set(items, key);
        }
        Value::Object(entries) => {
            key.push(b'{');
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in entries {
                encode_str(name, key);
                encode_unordered(value, key);
            }
            key.push(END);
        }
        value => encode(value, key),
    }
}
