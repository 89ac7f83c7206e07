//! Adds an argument to a schema that does not contain it.

use serde_json::{Map, Value, json};
use turbomcp_types::ToolInputSchema;

use super::LayerArgument;
use super::widen::{Widening, has_no_siblings, is_named, one_more};
use crate::references::References;

/// Adds a property to a schema of an object. Arguments accepted without it stay accepted with it.
pub(super) fn add(schema: &ToolInputSchema, references: References, argument: &LayerArgument) -> ToolInputSchema {
    let mut added = match says_nothing(schema) {
        true => ToolInputSchema { additional_properties: None, ..schema.clone() },
        false => widened(references, argument),
    };
    let mut properties = match added.properties.take() {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    properties.insert(argument.name.clone(), argument.schema.clone());
    added.properties = Some(properties.into());
    if argument.is_required {
        added.required.get_or_insert_default().push(argument.name.clone());
        if let Some(min) = added.extra_keywords.get_mut("minProperties") {
            *min = one_more(min).unwrap_or_default();
        }
    }
    added
}

/// Returns whether it is the schema of [`Tool::new`](turbomcp_types::Tool::new): its author has written none.
fn says_nothing(schema: &ToolInputSchema) -> bool {
    *schema == ToolInputSchema::default()
}

fn widened(references: References, argument: &LayerArgument) -> ToolInputSchema {
    let references = match refer_to_copy(references) {
        Ok(references) => references,
        Err(references) => return ToolInputSchema::from_value(kept(references.root(), &OPEN[..3])),
    };
    let mut wide = Widening::new(&references, &argument.name, &argument.schema).root();
    for less in [&OPEN[..], &OPEN[..3]] {
        if References::of(wide.clone()).lacks_what_is_in(&references) {
            wide = kept(references.root(), less);
        }
    }
    ToolInputSchema::from_value(wide)
}

/// Returns the parts of a schema that can be kept if the whole cannot be widened.
const OPEN: [&str; 7] = ["type", "title", "description", "properties", "required", "$defs", "definitions"];

fn kept(root: &Value, keywords: &[&str]) -> Value {
    let all = root.as_object().into_iter().flatten();
    let kept = all.filter(|(keyword, _)| keywords.contains(&keyword.as_str()));
    Value::Object(kept.map(|(keyword, value)| (keyword.clone(), value.clone())).collect())
}

/// Makes a recursive schema refer to a copy of itself, since nested values do not have the added argument. Returns an
/// error if a part of it has a name, which two copies cannot have.
fn refer_to_copy(references: References) -> Result<References, References> {
    let to_root = references.to_root();
    if to_root.is_empty() {
        return Ok(references);
    }
    let mut root = references.root().clone();
    let definitions = if has_no_siblings(&root) { "definitions" } else { "$defs" };
    let mut name = "Arguments".to_owned();
    while root.get(definitions).is_some_and(|all| all.get(&name).is_some()) {
        name.push('_');
    }
    for (pointer, keyword) in to_root {
        let Some(part) = root.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
        part.remove(keyword);
        let copy = format!("#/{definitions}/{name}");
        match part.contains_key("$ref") {
            false => drop(part.insert("$ref".to_owned(), copy.into())),
            true => {
                if let Some(all) = part.entry("allOf").or_insert_with(|| json!([])).as_array_mut() {
                    all.push(json!({ "$ref": copy }));
                }
            }
        }
    }
    let mut copy = root.clone();
    if let Some(copy) = copy.as_object_mut() {
        let of_the_whole =
            ["$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$defs", "definitions"];
        of_the_whole.iter().for_each(|keyword| drop(copy.remove(*keyword)));
    }
    if is_named(&copy) {
        return Err(references);
    }
    root[definitions][name] = copy;
    Ok(References::of(root))
}
