//! Which argument names a schema contains.

use std::collections::HashSet;

use serde_json::Value;

use crate::references::References;

/// Returns whether the author's schema names this property of the value itself, not of a nested value.
pub(super) fn mentions(references: &References, name: &str) -> bool {
    let mut seen = HashSet::new();
    let mut left = vec![references.root()];
    while let Some(part) = left.pop() {
        if !seen.insert(std::ptr::from_ref(part)) {
            continue;
        }
        left.extend(references.targets(part));
        let Some(keywords) = part.as_object() else { continue };
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("properties", Value::Object(properties)) if properties.contains_key(name) => return true,
                ("required", Value::Array(names)) if names.iter().any(|one| one == name) => return true,
                ("dependentRequired" | "dependentSchemas" | "dependencies", Value::Object(dependent)) => {
                    let names = |value: &Value| value.as_array().is_some_and(|all| all.iter().any(|one| one == name));
                    if dependent.iter().any(|(on, value)| on == name || names(value)) {
                        return true;
                    }
                    left.extend(dependent.values());
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => left.extend(parts),
                ("not" | "if" | "then" | "else", part) => left.push(part),
                _ => {}
            }
        }
    }
    false
}
