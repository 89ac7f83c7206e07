//! How an argument gets into a schema that says nothing of it.

use serde_json::{Map, Value};
use turbomcp_types::ToolInputSchema;

use super::LayerArgument;
use super::references::{find, for_each_reference, replace_references};
use super::widen::{Widening, has_no_siblings, one_more};

/// Adds a property to what a schema says of an object. What is accepted without it stays accepted with it.
pub(super) fn add(schema: &ToolInputSchema, argument: &LayerArgument) -> ToolInputSchema {
    let mut added = match says_nothing(schema) {
        true => ToolInputSchema { additional_properties: None, ..schema.clone() },
        false => widened(schema, argument),
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

/// Whether it is the schema of [`Tool::new`](turbomcp_types::Tool::new): its author has given none.
fn says_nothing(schema: &ToolInputSchema) -> bool {
    *schema == ToolInputSchema::default()
}

fn widened(schema: &ToolInputSchema, argument: &LayerArgument) -> ToolInputSchema {
    let root = refer_to_copy(serde_json::to_value(schema).unwrap_or_default());
    let mut wide = Widening::new(&root, &argument.name, &argument.schema).root();
    for less in [&OPEN[..], &OPEN[..3]] {
        if leads_nowhere(&root, &wide) {
            wide = kept(&root, less);
        }
    }
    ToolInputSchema::from_value(wide)
}

/// What is left of a schema that cannot be widened as it is.
const OPEN: [&str; 7] = ["type", "title", "description", "properties", "required", "$defs", "definitions"];

fn kept(root: &Value, keywords: &[&str]) -> Value {
    let all = root.as_object().into_iter().flatten();
    let kept = all.filter(|(keyword, _)| keywords.contains(&keyword.as_str()));
    Value::Object(kept.map(|(keyword, value)| (keyword.clone(), value.clone())).collect())
}

/// Whether a reference of `wide` leads somewhere in `root` only.
fn leads_nowhere(root: &Value, wide: &Value) -> bool {
    let mut nowhere = false;
    for_each_reference(wide, &mut |reference| {
        nowhere |= find(wide, reference).is_none() && find(root, reference).is_some();
    });
    nowhere
}

/// Makes a recursive schema refer to a copy of itself, since what is added is no part of the values inside.
fn refer_to_copy(mut root: Value) -> Value {
    let id = root.get("$id").and_then(Value::as_str).map(str::to_owned);
    let is_to_root = |reference: &str| {
        let reference = reference.strip_suffix('#').unwrap_or(reference);
        reference.is_empty() || id.as_deref().is_some_and(|id| id.strip_suffix('#').unwrap_or(id) == reference)
    };
    let mut is_recursive = false;
    for_each_reference(&root, &mut |reference| is_recursive |= is_to_root(reference));
    if !is_recursive {
        return root;
    }
    let definitions = if has_no_siblings(&root) { "definitions" } else { "$defs" };
    let mut name = "Arguments".to_owned();
    while root.get(definitions).is_some_and(|all| all.get(&name).is_some()) {
        name.push('_');
    }
    replace_references(&mut root, &is_to_root, &format!("#/{definitions}/{name}"));
    let mut copy = root.clone();
    if let Some(copy) = copy.as_object_mut() {
        ["$schema", "$id", "$defs", "definitions"].iter().for_each(|keyword| drop(copy.remove(*keyword)));
    }
    root[definitions][name] = copy;
    root
}
