//! Rewrites a schema so that it accepts an object with one more property.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use crate::references::References;

/// How many parts of a schema are rewritten: a schema may refer to itself in many ways, without end.
const MAX_PARTS: u32 = 1_000;

/// The nesting limit of parts: they are rewritten recursively.
const MAX_DEPTH: u32 = 32;

/// Keywords that do not constrain a value.
const ANNOTATIONS: [&str; 8] = ["$schema", "$id", "$comment", "title", "description", "$defs", "definitions", "type"];

/// Rewrites a schema so that it accepts an object with the property if it accepts the object without it.
pub(super) struct Widening<'a> {
    references: &'a References,
    name: &'a str,
    /// The added property.
    property: &'a Value,
    parts: Cell<u32>,
    /// Whether a condition was left out. `unevaluatedProperties` then does not see the properties that the condition
    /// evaluated.
    has_left_out: Cell<bool>,
    keeps_unevaluated: bool,
}

/// The values that a rewritten part may accept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// Exactly the objects that the part accepted, each with and without the property: another part excludes the values
    /// accepted here.
    TheSame,
    /// These and more.
    More,
}

/// The error of a part that cannot be rewritten within these bounds.
struct Unsayable;

type Part = Result<Value, Unsayable>;

impl<'a> Widening<'a> {
    pub(super) fn new(references: &'a References, name: &'a str, property: &'a Value) -> Self {
        Self {
            references,
            name,
            property,
            parts: Cell::new(0),
            has_left_out: Cell::new(false),
            keeps_unevaluated: true,
        }
    }

    pub(super) fn root(self) -> Value {
        let schema = self.references.root();
        let wide = self.part(schema, Accepts::More, 0);
        let wide = match self.has_left_out.get() {
            true => {
                let again = Self { parts: Cell::new(0), keeps_unevaluated: false, ..self };
                again.part(schema, Accepts::More, 0)
            }
            false => wide,
        };
        wide.unwrap_or_else(|Unsayable| json!({"type": "object"}))
    }

    fn has_no_siblings(&self) -> bool {
        has_no_siblings(self.references.root())
    }

    fn leave_out(&self, keyword: &str, wide: &mut Map<String, Value>) {
        self.has_left_out.set(true);
        wide.remove(keyword);
    }

    fn part(&self, schema: &Value, accepts: Accepts, depth: u32) -> Part {
        let Some(keywords) = schema.as_object() else { return Ok(schema.clone()) };
        self.parts.set(self.parts.get() + 1);
        if self.parts.get() > MAX_PARTS || depth > MAX_DEPTH {
            return Err(Unsayable);
        }
        let mut wide = keywords.clone();
        let refers = keywords.contains_key("$ref");
        if refers && self.has_no_siblings() {
            self.reference(schema, &mut wide, accepts, depth)?;
            return Ok(wide.into());
        }
        for (keyword, value) in keywords {
            match self.keyword(keyword, value, &mut wide, accepts, depth) {
                Ok(()) => {}
                // Without one of its conditions, a schema accepts more.
                Err(Unsayable) if accepts == Accepts::More => self.leave_out(keyword, &mut wide),
                Err(Unsayable) => return Err(Unsayable),
            }
        }
        if refers {
            self.reference(schema, &mut wide, accepts, depth)?;
        }
        Ok(wide.into())
    }

    fn keyword(
        &self,
        keyword: &str,
        value: &Value,
        wide: &mut Map<String, Value>,
        accepts: Accepts,
        depth: u32,
    ) -> Result<(), Unsayable> {
        let part = |part: &Value, accepts| self.part(part, accepts, depth + 1);
        let all = |parts: &Value, accepts| -> Part {
            let parts = parts.as_array().map_or(&[][..], Vec::as_slice);
            parts.iter().map(|one| part(one, accepts)).collect::<Result<Vec<_>, _>>().map(Value::from)
        };
        let replacement = match keyword {
            "unevaluatedProperties" if *value != true && !self.keeps_unevaluated => return Err(Unsayable),
            "additionalProperties" | "unevaluatedProperties" if *value != true => {
                let properties = wide.entry("properties").or_insert_with(|| json!({}));
                if let Some(properties) = properties.as_object_mut().filter(|all| !all.contains_key(self.name)) {
                    properties.insert(self.name.to_owned(), true.into());
                }
                return Ok(());
            }
            "propertyNames" => json!({"anyOf": [{"const": self.name}, value]}),
            "patternProperties" => self.patterns(value, accepts)?,
            "minProperties" | "maxProperties" | "const" | "enum" if accepts == Accepts::TheSame => {
                return Err(Unsayable);
            }
            "maxProperties" => one_more(value).ok_or(Unsayable)?,
            "const" | "enum" => return Err(Unsayable),
            "allOf" | "anyOf" => all(value, accepts)?,
            "oneOf" => match all(value, Accepts::TheSame) {
                Ok(parts) => parts,
                Err(Unsayable) if accepts == Accepts::More && !wide.contains_key("anyOf") => {
                    let parts = all(value, Accepts::More)?;
                    wide.insert("anyOf".to_owned(), parts);
                    return Err(Unsayable);
                }
                Err(Unsayable) => return Err(Unsayable),
            },
            "not" => part(value, Accepts::TheSame)?,
            "if" => match part(value, Accepts::TheSame) {
                Ok(condition) => condition,
                Err(Unsayable) => {
                    ["then", "else"].iter().for_each(|branch| drop(wide.remove(*branch)));
                    return Err(Unsayable);
                }
            },
            // The condition may have been removed, together with its branches.
            "then" | "else" if !wide.contains_key(keyword) => return Ok(()),
            "then" | "else" => part(value, accepts)?,
            "dependentSchemas" | "dependencies" => {
                let dependent = value.as_object().into_iter().flatten();
                let dependent = dependent.map(|(on, value)| Ok((on.clone(), part(value, accepts)?)));
                Value::Object(dependent.collect::<Result<_, Unsayable>>()?)
            }
            "$dynamicRef" | "$recursiveRef" => return Err(Unsayable),
            _ => return Ok(()),
        };
        wide.insert(keyword.to_owned(), replacement);
        Ok(())
    }

    fn patterns(&self, patterns: &Value, accepts: Accepts) -> Part {
        let patterns = patterns.as_object().into_iter().flatten().map(|(pattern, value)| {
            let value = match (may_match(pattern, self.name), accepts) {
                (false, _) => value.clone(),
                (true, Accepts::More) => json!({"anyOf": [value, self.property]}),
                (true, Accepts::TheSame) => return Err(Unsayable),
            };
            Ok((pattern.clone(), value))
        });
        Ok(Value::Object(patterns.collect::<Result<_, _>>()?))
    }

    /// Replaces a reference by its target, if the target must be changed for this property.
    fn reference(
        &self,
        part: &Value,
        wide: &mut Map<String, Value>,
        accepts: Accepts,
        depth: u32,
    ) -> Result<(), Unsayable> {
        let widened = match self.references.target_by("$ref", part) {
            Some(target) => match self.part(target, accepts, depth + 1) {
                Ok(widened) if widened == *target => return Ok(()),
                Ok(widened) if !is_named(&widened) => Ok(widened),
                Ok(_) | Err(Unsayable) => Err(Unsayable),
            },
            None => Err(Unsayable),
        };
        let widened = match widened {
            Ok(widened) => widened,
            Err(Unsayable) if accepts == Accepts::TheSame => return Err(Unsayable),
            Err(Unsayable) => {
                self.has_left_out.set(true);
                Value::Bool(true)
            }
        };
        wide.remove("$ref");
        if self.has_no_siblings() {
            wide.retain(|keyword, _| ANNOTATIONS.contains(&keyword.as_str()));
        }
        let is_nothing_beside = wide.iter().all(|(keyword, value)| {
            let target = widened.get(keyword);
            ANNOTATIONS.contains(&keyword.as_str()) && (is_told(keyword) || target.is_none_or(|target| target == value))
        });
        match widened {
            Value::Object(target) if is_nothing_beside => {
                for (keyword, value) in target {
                    wide.entry(keyword).or_insert(value);
                }
            }
            Value::Bool(true) => {}
            target => match wide.entry("allOf").or_insert_with(|| json!([])) {
                Value::Array(parts) => parts.push(target),
                _ => return Err(Unsayable),
            },
        }
        Ok(())
    }
}

/// Raises a bound on the number of properties by one.
pub(super) fn one_more(bound: &Value) -> Option<Value> {
    let bound =
        bound.as_u64().or_else(|| bound.as_f64().filter(|bound| bound.fract() == 0.0).map(|bound| bound as u64))?;
    Some(bound.saturating_add(1).into())
}

/// Returns whether a referring part and its target may both have this keyword: the first one counts.
fn is_told(keyword: &str) -> bool {
    matches!(keyword, "title" | "description" | "$comment")
}

/// Returns whether a reference is the only effective keyword of its part: up to draft 7, the keywords beside it are
/// ignored.
pub(super) fn has_no_siblings(root: &Value) -> bool {
    let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft))
}

/// Returns whether a schema contains a name, which two copies cannot have.
pub(super) fn is_named(schema: &Value) -> bool {
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) => {
                let is_name = |keyword: &&str| entries.get(*keyword).is_some_and(Value::is_string);
                if ["$id", "id", "$anchor", "$dynamicAnchor"].iter().any(is_name) {
                    return true;
                }
                left.extend(entries.values());
            }
            _ => {}
        }
    }
    false
}

/// Returns whether a pattern may match a name: it does not if it begins with other letters.
fn may_match(pattern: &str, name: &str) -> bool {
    let Some(rest) = pattern.strip_prefix('^').filter(|rest| !rest.contains('|')) else { return true };
    let is_letter = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
    let letters = rest.find(|char| !is_letter(char)).unwrap_or(rest.len());
    let letters = match rest[letters..].chars().next() {
        // The last one may be missing.
        Some('?' | '*' | '{') => &rest[..letters.saturating_sub(1)],
        _ => &rest[..letters],
    };
    name.starts_with(letters)
}
