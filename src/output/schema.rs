//! Whether other strings in a value could break its schema.

use serde_json::Value;

/// The keywords that constrain a value which is a string.
const OF_STRINGS: [&str; 4] = ["pattern", "format", "minLength", "maxLength"];
/// The keywords whose value may have strings to compare with.
const COMPARED: [&str; 2] = ["enum", "const"];
/// The keywords that a part of the document cannot answer: they compare items, or refer to another document.
const OTHERS: [&str; 3] = ["uniqueItems", "$dynamicRef", "$recursiveRef"];
/// The keywords whose entries have names of the author's.
const NAMED: [&str; 5] = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Returns a keyword by which other strings could break the schema.
///
/// Without such a keyword anywhere, a schema asks for types, numbers, names and counts only. Then a value stays as valid as it was,
/// whatever strings replace its strings, also below `anyOf`, `not` or a reference.
pub(super) fn constrains_strings(schema: &Value) -> Option<&'static str> {
    let mut left = vec![schema];
    while let Some(part) = left.pop() {
        match part {
            Value::Array(parts) => left.extend(parts),
            Value::Object(keywords) => {
                let has = |keyword: &&&str| keywords.contains_key(**keyword);
                if keywords.get("$ref").and_then(Value::as_str).is_some_and(|target| !target.starts_with('#')) {
                    return Some("$ref");
                }
                if let Some(keyword) = OTHERS.iter().find(has) {
                    return Some(keyword);
                }
                if let Some(keyword) = OF_STRINGS.iter().find(has).filter(|_| may_be_string(keywords.get("type"))) {
                    return Some(keyword);
                }
                let compares = |keyword: &&&str| keywords.get(**keyword).is_some_and(has_string);
                if let Some(keyword) = COMPARED.iter().find(compares) {
                    return Some(keyword);
                }
                for (keyword, value) in keywords {
                    match value {
                        Value::Object(named) if NAMED.contains(&keyword.as_str()) => left.extend(named.values()),
                        value => left.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    None
}

fn may_be_string(types: Option<&Value>) -> bool {
    match types {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(several)) => several.iter().any(|one| one == "string"),
        _ => true,
    }
}

fn has_string(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(items) => items.iter().any(has_string),
        Value::Object(entries) => entries.values().any(has_string),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
