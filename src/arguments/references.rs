//! Where the references of a schema lead, and which names it knows for the arguments of a call.

use std::collections::HashSet;

use serde_json::Value;

use crate::percent;

/// Whether the author's schema names this property of the value itself: not of one inside it.
pub(super) fn mentions(root: &Value, name: &str) -> bool {
    let mut seen = HashSet::new();
    let mut left = vec![root];
    while let Some(part) = left.pop() {
        if !seen.insert(std::ptr::from_ref(part)) {
            continue;
        }
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
                ("$ref", Value::String(reference)) => left.extend(find(root, reference)),
                _ => {}
            }
        }
    }
    false
}

/// Follows a reference into the same document: by pointer, by anchor, or by the name of a part.
pub(super) fn find<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    if !document.is_empty() && root.get("$id").and_then(Value::as_str).map(without_fragment) != Some(document) {
        let part = part(root, |part| part.get("$id").is_some_and(|id| id == document))?;
        return if fragment.is_empty() { Some(part) } else { None };
    }
    match str::from_utf8(&percent::decoded(fragment)).ok()? {
        pointer if pointer.is_empty() || pointer.starts_with('/') => root.pointer(pointer),
        anchor => part(root, |part| {
            ["$anchor", "$dynamicAnchor"].iter().any(|keyword| part.get(keyword).is_some_and(|name| name == anchor))
        }),
    }
}

fn without_fragment(uri: &str) -> &str {
    uri.split_once('#').map_or(uri, |(uri, _)| uri)
}

fn part(root: &Value, is_it: impl Fn(&Value) -> bool) -> Option<&Value> {
    let mut left = vec![root];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(_) if is_it(value) => return Some(value),
            Value::Object(entries) => left.extend(entries.values()),
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    None
}

/// Values, in which nothing is a reference.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// Tells of each reference, wherever it is.
pub(super) fn for_each_reference(schema: &Value, then: &mut impl FnMut(&str)) {
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) => {
                for (keyword, value) in entries.iter().filter(|(keyword, _)| !DATA.contains(&keyword.as_str())) {
                    match (keyword.as_str(), value) {
                        ("$ref" | "$recursiveRef" | "$dynamicRef", Value::String(reference)) => then(reference),
                        _ => left.push(value),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Makes all references that `is_it` says so of refer to another part.
pub(super) fn replace_references(schema: &mut Value, is_it: &impl Fn(&str) -> bool, by: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| replace_references(item, is_it, by)),
        Value::Object(entries) => {
            for keyword in ["$ref", "$recursiveRef"] {
                if entries.get(keyword).and_then(Value::as_str).is_some_and(is_it) {
                    entries.remove(keyword);
                    entries.insert("$ref".to_owned(), by.into());
                }
            }
            let schemas = entries.iter_mut().filter(|(keyword, _)| !DATA.contains(&keyword.as_str()));
            schemas.for_each(|(_, value)| replace_references(value, is_it, by));
        }
        _ => {}
    }
}
