//! The log entries of errors of which the caller reads only the id.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::key_hash::KeyHash;
use crate::scope::{self, Scoped};

/// Creates the id of an error: 16 hexadecimal digits. The caller reads it as `(error 0123456789abcdef)`, and the log has it with
/// all details.
pub(crate) fn error_id() -> String {
    format!("{:016x}", random())
}

/// Returns a number that no other id has. It is no secret.
pub(crate) fn random() -> u64 {
    // The keys of `RandomState` come from the system's randomness, each pair once.
    RandomState::new().hash_one(())
}

/// The label of a call in the log. The scope of a call has one if a layer knows the call.
#[derive(Debug, Clone)]
pub(crate) struct CallLabel {
    tool: Option<Arc<str>>,
    key_hash: Option<KeyHash>,
    /// From 1.
    pub(crate) attempt: u32,
}

impl Scoped for CallLabel {}

impl CallLabel {
    /// Returns the label of the call that runs here.
    pub(crate) fn current() -> Self {
        let label = scope::current::<Self>();
        let mut label = label.map_or(Self { tool: None, key_hash: None, attempt: 1 }, |label| (*label).clone());
        if let Some((tool, key_hash)) = scope::keyed_call() {
            label.tool.get_or_insert(tool);
            label.key_hash.get_or_insert(key_hash);
        }
        label.tool = label.tool.or_else(scope::tool);
        label
    }

    pub(crate) fn with_tool(mut self, tool: Arc<str>) -> Self {
        self.tool = Some(tool);
        self
    }

    pub(crate) fn with_key_hash(mut self, key_hash: KeyHash) -> Self {
        self.key_hash = Some(key_hash);
        self
    }

    /// Sets the attempt. The first attempt of a layer counts as the current attempt of the layers around it.
    pub(crate) fn with_attempt(mut self, attempt: u32) -> Self {
        if attempt > 1 {
            self.attempt = attempt;
        }
        self
    }

    pub(crate) fn tool(&self) -> Option<&str> {
        self.tool.as_deref()
    }

    pub(crate) fn key_hash(&self) -> Option<&str> {
        self.key_hash.as_ref().map(KeyHash::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{CallLabel, error_id};
    use crate::key_hash::KeyHash;

    #[test]
    fn the_id_of_an_error_has_16_hexadecimal_digits_and_is_new_each_time() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| error_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit())));
    }

    #[test]
    fn the_first_attempt_of_an_inner_layer_counts_as_the_attempt_of_the_outer_one() {
        let outer = CallLabel::current().with_attempt(3).with_key_hash(KeyHash::new("0123456789abcdef0"));
        assert_eq!(outer.clone().with_attempt(1).attempt, 3);
        assert_eq!(outer.clone().with_attempt(2).attempt, 2);
        assert_eq!(outer.key_hash(), Some("0123456789abcdef"));
        assert_eq!(CallLabel::current().attempt, 1);
    }
}
