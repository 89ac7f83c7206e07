use serde_json::Value;

use super::references::local;

/// How many references lead from one to the next.
const MAX_REFERENCES: usize = 16;

/// How deep `allOf` is nested in `allOf`: it may refer to itself.
const MAX_PARTS: usize = 8;

/// Whether a schema has defaults at all.
pub(super) fn has_any(schema: &Value) -> bool {
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) if entries.contains_key("default") => return true,
            Value::Object(entries) => left.extend(entries.values()),
            _ => {}
        }
    }
    false
}

/// Gives each property that is missing the default of its schema, at every depth.
///
/// What is an alternative (`anyOf`, `oneOf`, `if`) has no defaults: which one is meant is not known yet.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    fill_part(schema, schema, value, 0);
}

/// Recurses no deeper than the value is nested, which has its limit.
fn fill_part(root: &Value, schema: &Value, value: &mut Value, parts: usize) {
    let Some(schema) = resolve(root, schema) else { return };
    match value {
        Value::Object(entries) => {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (name, property) in properties {
                    if !entries.contains_key(name) {
                        let default = property.get("default").or_else(|| resolve(root, property)?.get("default"));
                        // A default is as it is: its own properties have no further defaults, which may have no end.
                        if let Some(default) = default {
                            entries.insert(name.clone(), default.clone());
                        }
                    } else if let Some(value) = entries.get_mut(name) {
                        fill_part(root, property, value, 0);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_part(root, schema, item, 0));
            }
        }
        _ => return,
    }
    if parts < MAX_PARTS {
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            fill_part(root, part, value, parts + 1);
        }
    }
}

fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_REFERENCES {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => schema = local(root, reference)?,
            None => return Some(schema),
        }
    }
    None
}
