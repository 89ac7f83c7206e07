//! Where the references of a schema lead.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The most ways by which a part of the schema leads back to itself.
pub(super) fn ways(root: &Value) -> usize {
    let mut most = 0;
    let mut left = vec![root];
    if !refers(root) {
        return 0;
    }
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) => {
                most = most.max(branches(value).into_iter().filter(|branch| leads_to(root, branch, value)).count());
                left.extend(entries.values());
            }
            _ => {}
        }
    }
    most
}

/// Whether anything in the schema refers to anything.
fn refers(root: &Value) -> bool {
    let mut left = vec![root];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) if entries.keys().any(|keyword| is_reference(keyword)) => return true,
            Value::Object(entries) => left.extend(entries.values()),
            _ => {}
        }
    }
    false
}

fn is_reference(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "$dynamicRef" | "$recursiveRef")
}

/// What a schema says of one and the same value, each part by itself.
fn branches(schema: &Value) -> Vec<Vec<&Value>> {
    let Some(keywords) = schema.as_object() else { return Vec::new() };
    let mut below = Vec::new();
    let mut branches = Vec::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => branches.extend(all.iter().map(|one| vec![one])),
            ("dependentSchemas" | "patternProperties", Value::Object(all)) => {
                branches.extend(all.values().map(|one| vec![one]));
            }
            ("if" | "then" | "else" | "not" | "contains" | "unevaluatedProperties" | "unevaluatedItems", one) => {
                branches.push(vec![one]);
            }
            (keyword, _) if is_reference(keyword) || is_definitions(keyword) => {}
            (_, one) => below.push(one),
        }
    }
    if keywords.keys().any(|keyword| is_reference(keyword)) {
        branches.push(vec![schema]);
    }
    branches.push(below);
    branches
}

/// Whether one of `from` contains `target`, or refers to what does. Too often rather than too seldom.
fn leads_to(root: &Value, from: &[&Value], target: &Value) -> bool {
    let mut seen = HashSet::new();
    let mut left: Vec<&Value> = Vec::new();
    for value in from {
        // What a reference beside other keywords refers to, and not those keywords.
        match std::ptr::eq(*value, target) {
            true => left.extend(target_of(root, value)),
            false => left.push(value),
        }
    }
    while let Some(value) = left.pop() {
        if std::ptr::eq(value, target) {
            return true;
        }
        if !seen.insert(std::ptr::from_ref(value)) {
            continue;
        }
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) => {
                left.extend(target_of(root, value));
                left.extend(entries.iter().filter(|(name, _)| !is_definitions(name)).map(|(_, value)| value));
            }
            _ => {}
        }
    }
    false
}

fn is_definitions(keyword: &str) -> bool {
    matches!(keyword, "$defs" | "definitions")
}

/// What a schema refers to. By another way than a pointer into the same document, it may be anything.
fn target_of<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    if schema.get("$dynamicRef").is_some() || schema.get("$recursiveRef").is_some() {
        return Some(root);
    }
    let reference = schema.get("$ref")?.as_str()?;
    Some(local(root, reference).unwrap_or(root))
}

/// Follows a reference into the same document: by pointer, by anchor, or by the name of a part.
pub(super) fn local<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    match reference.strip_prefix('#') {
        Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => root.pointer(pointer),
        Some(anchor) => part(root, |part| {
            ["$anchor", "$dynamicAnchor"].iter().any(|keyword| part.get(keyword).is_some_and(|name| name == anchor))
        }),
        None => part(root, |part| part.get("$id").is_some_and(|name| name == reference)),
    }
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

/// Whether a part of the schema leads back to itself and has said nothing of a part of the value on the way: checking a value
/// by it would not end.
pub(super) fn is_endless(root: &Value) -> bool {
    #[derive(PartialEq)]
    enum Seen {
        OnTheWay,
        Done,
    }
    let mut seen: HashMap<*const Value, Seen> = HashMap::new();
    let mut starts = vec![root];
    while let Some(start) = starts.pop() {
        match start {
            Value::Object(entries) => starts.extend(entries.values()),
            Value::Array(items) => starts.extend(items),
            _ => continue,
        }
        let mut way = vec![(start, false)];
        while let Some((schema, is_left)) = way.pop() {
            let key = std::ptr::from_ref(schema);
            if is_left {
                seen.insert(key, Seen::Done);
                continue;
            }
            match seen.get(&key) {
                Some(Seen::OnTheWay) => return true,
                Some(Seen::Done) => continue,
                None => {}
            }
            seen.insert(key, Seen::OnTheWay);
            way.push((schema, true));
            way.extend(of_the_same_value(root, schema).into_iter().map(|next| (next, false)));
        }
    }
    false
}

/// What a schema has others say of the very same value.
fn of_the_same_value<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut others = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => others.extend(all),
            ("dependentSchemas", Value::Object(all)) => others.extend(all.values()),
            ("if" | "then" | "else" | "not", one) => others.push(one),
            (keyword, Value::String(reference)) if is_reference(keyword) => others.extend(local(root, reference)),
            _ => {}
        }
    }
    others
}

/// A schema and all that it says of the same value elsewhere: what it refers to, and its alternatives.
pub(super) fn views<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    const MAX_VIEWS: usize = 64;
    let mut views = vec![schema];
    let mut next = 0;
    while let Some(view) = views.get(next).copied() {
        next += 1;
        let referred = view.get("$ref").and_then(Value::as_str).and_then(|reference| local(root, reference));
        let alternatives =
            ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| view.get(keyword)?.as_array()).flatten();
        for more in referred.into_iter().chain(alternatives) {
            if views.len() < MAX_VIEWS && !views.iter().any(|seen| std::ptr::eq(*seen, more)) {
                views.push(more);
            }
        }
    }
    views
}
