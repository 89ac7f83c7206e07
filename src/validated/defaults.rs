//! The defaults of a schema.

use std::collections::HashMap;
use std::fmt::Write;

use jsonschema::{Draft, Registry};
use serde_json::{Value, json};

use super::formats::Formats;
use super::meter::Meter;
use super::metered::Metered;
use crate::references::References;

/// The maximum length of a chain of references.
const MAX_REFERENCES: usize = 16;

/// The maximum depth of `allOf` inside `allOf`, since it may refer to itself.
const MAX_PARTS: usize = 8;

/// The address of the schema while its parts are compiled.
const ROOT: &str = "json-schema:///root";

/// The defaults that match their own schema.
#[derive(Debug)]
pub(super) struct Defaults {
    /// By the address of the property's schema.
    accepted: HashMap<usize, Value>,
    /// The pointers of the properties whose default does not match its own schema.
    refused: Vec<String>,
}

impl Defaults {
    /// Finds the defaults of all properties, and checks each by the schema of its property.
    pub(super) fn of(references: &References, formats: &Formats) -> Self {
        let mut defaults = Self { accepted: HashMap::new(), refused: Vec::new() };
        let root = references.root();
        if !has_any(root) {
            return defaults;
        }
        let draft = Draft::default().detect(root);
        let registry = Registry::new().draft(draft).add(ROOT, draft.create_resource_ref(root));
        let Ok(registry) = registry.and_then(jsonschema::RegistryBuilder::prepare) else { return defaults };
        let accepts = |pointer: &str, default: &Value| {
            let part = json!({ "$ref": format!("{ROOT}#{}", encoded(pointer)) });
            let options = formats.options().with_draft(draft).with_registry(&registry);
            // One that cannot be compiled alone is the schema's to judge.
            options.build(&part).is_ok_and(|part| part.is_valid(Metered::new(default, &Meter::unbounded())))
        };
        let mut left = vec![(root, String::new())];
        while let Some((value, pointer)) = left.pop() {
            match value {
                Value::Array(items) => {
                    left.extend(items.iter().enumerate().map(|(index, item)| (item, format!("{pointer}/{index}"))));
                }
                Value::Object(entries) => {
                    for (name, entry) in entries {
                        let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                        if name == "properties" {
                            defaults.find(references, entry, &below, &accepts);
                        }
                        left.push((entry, below));
                    }
                }
                _ => {}
            }
        }
        defaults.refused.sort();
        defaults
    }

    fn find(
        &mut self,
        references: &References,
        properties: &Value,
        pointer: &str,
        accepts: &impl Fn(&str, &Value) -> bool,
    ) {
        for (name, property) in properties.as_object().into_iter().flatten() {
            let referred = || resolve(references, property)?.get("default");
            let Some(default) = property.get("default").or_else(referred) else { continue };
            let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            if accepts(&pointer, default) {
                self.accepted.insert(address(property), default.clone());
            } else {
                self.refused.push(pointer);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    pub(super) fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Gives each property that is missing the default of its schema, at every depth.
    ///
    /// What is an alternative (`anyOf`, `oneOf`, `if`) has no defaults: which one is meant is not known yet.
    pub(super) fn fill(&self, references: &References, value: &mut Value) {
        self.fill_part(references, references.root(), value, 0);
    }

    /// Recurses no deeper than the value is nested, which has its limit.
    fn fill_part(&self, references: &References, schema: &Value, value: &mut Value, parts: usize) {
        let Some(schema) = resolve(references, schema) else { return };
        match value {
            Value::Object(entries) => {
                for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    if let Some(value) = entries.get_mut(name) {
                        self.fill_part(references, property, value, 0);
                    } else if let Some(default) = self.accepted.get(&address(property)) {
                        // A default is as it is: its own properties have no further defaults, which may have no end.
                        entries.insert(name.clone(), default.clone());
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    items.iter_mut().for_each(|item| self.fill_part(references, schema, item, 0));
                }
            }
            _ => return,
        }
        if parts < MAX_PARTS {
            for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                self.fill_part(references, part, value, parts + 1);
            }
        }
    }
}

/// Whether a schema has defaults at all.
fn has_any(schema: &Value) -> bool {
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

fn address(part: &Value) -> usize {
    std::ptr::from_ref(part) as usize
}

fn resolve<'a>(references: &'a References, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_REFERENCES {
        match references.targets(schema).next() {
            Some(target) => schema = target,
            None => return Some(schema),
        }
    }
    None
}

/// A pointer as the fragment of a URI.
fn encoded(pointer: &str) -> String {
    let mut fragment = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        match byte {
            b'/' | b'~' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                fragment.push(char::from(byte));
            }
            // Writing to a string does not fail.
            byte => drop(write!(fragment, "%{byte:02X}")),
        }
    }
    fragment
}
