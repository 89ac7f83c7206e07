//! The arguments that layers further in have added to a tool.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_types::Tool;

use super::mark::{self, Added};
use crate::canonical::{encode, encode_str};

/// The arguments that layers further in have added to a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerArguments(Option<Arc<[Added]>>);

impl LayerArguments {
    /// Returns the arguments that layers of this stack have added to `tool`, as it was listed to the calling layer: in
    /// [`Middleware::bind`](crate::Middleware::bind), `observe_tools`, `list_tools` or `list_tools_for`.
    #[must_use]
    pub fn of(tool: &Tool) -> Self {
        match mark::read(tool) {
            Some(mark) => Self(Some(mark.added().into())),
            None => Self(None),
        }
    }

    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added().is_empty()
    }

    /// Removes them from a call, so that only the tool's own arguments are left.
    #[must_use = "put them back: the layers further in need them"]
    pub fn take(&self, args: &mut Value) -> Taken {
        let Some(args) = args.as_object_mut() else { return Taken::default() };
        Taken(self.added().iter().filter_map(|added| args.remove_entry(&*added.name)).collect())
    }

    /// Returns the tool's own arguments. It copies them only if there are others.
    #[must_use]
    pub fn without<'a>(&self, args: &'a Value) -> Cow<'a, Value> {
        match args {
            Value::Object(entries) if entries.keys().any(|name| self.has(name)) => {
                let own = entries.iter().filter(|(name, _)| !self.has(name));
                Cow::Owned(Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect()))
            }
            _ => Cow::Borrowed(args),
        }
    }

    /// Appends the arguments that an answer may depend on to the key of a call.
    pub(crate) fn encode<'a>(&self, given: impl Fn(&str) -> Option<&'a Value>, key: &mut Vec<u8>) {
        for added in self.added().iter().filter(|added| added.is_in_keys) {
            if let Some(value) = given(&added.name).filter(|value| !value.is_null()) {
                encode_str(&added.name, key);
                encode(value, key);
            }
        }
    }

    /// Returns all but the one of this name.
    pub(crate) fn except(&self, name: &str) -> Self {
        let others: Arc<[_]> = self.added().iter().filter(|added| *added.name != *name).cloned().collect();
        Self(Some(others).filter(|others| !others.is_empty()))
    }

    #[cfg(feature = "validated")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.added().iter().map(|added| &*added.name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.added().iter().any(|added| *added.name == *name)
    }

    pub(super) fn to_vec(&self) -> Vec<Added> {
        self.added().to_vec()
    }

    fn added(&self) -> &[Added] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The arguments of layers that were [removed](LayerArguments::take) from a call.
#[derive(Debug, Clone, Default)]
#[must_use = "put them back: the layers further in need them"]
pub struct Taken(Vec<(String, Value)>);

impl Taken {
    /// Puts them back, for the layers further in.
    pub fn put_back(self, args: &mut Value) {
        if let Some(args) = args.as_object_mut() {
            args.extend(self.0);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(taken, _)| taken == name).map(|(_, value)| value)
    }
}
