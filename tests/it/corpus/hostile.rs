//! Hostile instances of a schema: every value is wrong, as often as the size allows.

use serde_json::{Map, Value, json};

/// The depth to which a schema is read: it may refer to itself.
const DEEPEST: usize = 6;

/// Instances of about this many bytes.
pub(crate) fn hostile(schema: &Value, bytes: usize) -> Vec<(&'static str, Value)> {
    let names = names(schema);
    let unknown = |seed: usize| -> Map<String, Value> {
        let near = |index: usize| match names.get(index % names.len().max(1)) {
            Some(name) => format!("{name}{:03}", (index + seed) % 1000),
            None => format!("name{index:05}"),
        };
        (0..(bytes / 24).min(999)).map(|index| (near(index), json!(1))).collect()
    };
    let wrong = [json!(null), json!("x"), json!({}), json!([]), json!(1.5)];
    let mut all = vec![("unknown names", Value::Object(unknown(0)))];
    for wrong in &wrong {
        all.push(("wrong everywhere", filled(schema, schema, wrong, bytes, 0)));
    }
    let objects = Value::Object(unknown(7));
    all.push(("unknown names below", filled(schema, schema, &objects, bytes, 0)));
    let long = "x".repeat(bytes / 2);
    all.push(("long strings", filled(schema, schema, &json!(long), bytes, 0)));
    let mut nested = json!({});
    for level in 0..20 {
        let inner = if level % 2 == 0 { json!([nested]) } else { nested };
        nested = Value::Object(names.iter().take(12).map(|name| (name.clone(), json!(1))).collect());
        // The width doubles with each of the innermost levels.
        for name in names.iter().take(if level < 7 { 2 } else { 1 }) {
            nested[name] = inner.clone();
        }
    }
    all.push(("deep", nested));
    all
}

/// Every place of the schema, filled with a wrong value; lists as long as the size allows.
fn filled(root: &Value, schema: &Value, wrong: &Value, bytes: usize, depth: usize) -> Value {
    if depth > DEEPEST {
        return wrong.clone();
    }
    let schema =
        match schema.get("$ref").and_then(Value::as_str).and_then(|it| root.pointer(it.trim_start_matches('#'))) {
            Some(target) => target,
            None => schema,
        };
    let alternatives =
        ["anyOf", "oneOf", "allOf"].iter().filter_map(|keyword| schema.get(keyword)?.as_array()).flatten();
    let all: Vec<&Value> = std::iter::once(schema).chain(alternatives).collect();
    let mut entries = Map::new();
    for schema in &all {
        let properties: Vec<_> = schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        let room = bytes / properties.len().max(1);
        for (name, property) in properties {
            entries.insert(name.clone(), filled(root, property, wrong, room, depth + 1));
        }
    }
    if !entries.is_empty() {
        return Value::Object(entries);
    }
    match all.iter().find_map(|schema| schema.get("items")) {
        Some(items) => {
            let mut item = filled(root, items, wrong, bytes / 8, depth + 1);
            if item.to_string().len() * 2 > bytes {
                item = wrong.clone();
            }
            let count = bytes / (item.to_string().len() + 1);
            Value::Array(vec![item; count.clamp(1, 9_999)])
        }
        None => wrong.clone(),
    }
}

/// The names of all properties in the schema.
fn names(schema: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(entries) => {
                names.extend(
                    entries.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned(),
                );
                left.extend(entries.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    names
}
