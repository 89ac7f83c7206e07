//! Tells what the schema found wrong: as many violations as are listed, and of the others how many they are.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value, json};

use super::hints::Hints;
use super::messages::{MAX_OPTIONS, describe, keyword, names, one_of, options, types};
use super::meter::is_true;
use super::pointer::{pointer_of, push_name};
use super::violation::Violation;
use super::violations::Found;
use super::words::{any_of, with_article};
use crate::references::References;

/// Puts the errors of one input into words.
pub(super) struct Telling<'a> {
    pub(super) references: &'a References,
    pub(super) input: &'a Value,
    pub(super) hints: &'a mut Hints,
    pub(super) found: &'a mut Found,
}

impl Telling<'_> {
    /// Puts an error into words. Once as many are listed as may be, errors are counted and not worded.
    pub(super) fn tell(&mut self, error: &ValidationError<'_>) {
        if self.is_full() {
            return self.found.omit(self.count(error));
        }
        let at = pointer_of(error.instance_path().as_str());
        match error.kind() {
            Kind::Required { property } => {
                let mut at = at;
                push_name(&mut at, property.as_str().unwrap_or_default());
                self.found.push(Violation::of(at, "required", "is missing"));
            }
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                let known = known_names(self.references, error);
                self.tell_unknown(keyword(error), &at, unexpected.iter().map(String::as_str), &known, error);
            }
            // Where no property is known, that is all that is said of any.
            Kind::FalseSchema if is_of_all_properties(error.schema_path().as_str()) => {
                let names = given(self.input, error).into_iter().flat_map(Map::keys).map(String::as_str);
                self.tell_unknown("additionalProperties", &at, names, &[], error);
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.tell_alternatives(error, at, context),
            Kind::OneOfMultipleValid { context } => {
                let predicate = match exclusive_names(self.references, error, context) {
                    Some(names) => format!("must have only one of {names}"),
                    None => "matches several of the forms that exclude each other".to_owned(),
                };
                self.found.push(Violation::of(at, "oneOf", predicate));
            }
            Kind::Enum { options: all } => {
                let all = all.as_array().map_or(&[][..], Vec::as_slice);
                let hint = self.nearest_option(error.instance_path().as_str(), all);
                self.found.push(one_of(at, all).with_hint(hint));
            }
            kind => {
                let (predicate, expected) = describe(kind);
                let violation = Violation::of(at, keyword(error), predicate);
                self.found.push(match expected {
                    Some(expected) => violation.expecting(json!({ keyword(error): expected })),
                    None => violation,
                });
            }
        }
    }

    fn is_full(&self) -> bool {
        self.found.count() >= self.found.max_listed()
    }

    /// How many violations an error is, as far as that can be seen without words.
    fn count(&self, error: &ValidationError<'_>) -> usize {
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => unexpected.len(),
            Kind::FalseSchema if is_of_all_properties(error.schema_path().as_str()) => {
                given(self.input, error).map_or(1, Map::len)
            }
            _ => 1,
        }
    }

    fn tell_unknown<'n>(
        &mut self,
        code: &'static str,
        at: &str,
        unknown: impl Iterator<Item = &'n str>,
        known: &[&str],
        error: &ValidationError<'_>,
    ) {
        let given = given(self.input, error);
        let mut unknown: Vec<_> = unknown.collect();
        unknown.sort_unstable();
        for name in unknown {
            if self.is_full() {
                self.found.omit(1);
                continue;
            }
            let mut at = at.to_owned();
            push_name(&mut at, name);
            let free = known.iter().copied().filter(|known| given.is_none_or(|given| !given.contains_key(*known)));
            let hint = self.hints.nearest(name, free);
            let violation = Violation::of(at, code, "is not known here").with_hint(hint);
            self.found.push(match known.is_empty() {
                true => violation,
                false => violation.expecting(json!({ "properties": options(known.iter().map(|name| json!(name))) })),
            });
        }
    }

    fn nearest_option(&mut self, place: &str, options: &[Value]) -> Option<String> {
        let given = self.input.pointer(place)?.as_str()?;
        self.hints.nearest(given, options.iter().filter_map(Value::as_str))
    }

    /// Tells what is wrong with the one alternative that was meant, if that can be seen: the others are of another type, or bear
    /// another tag.
    fn tell_alternatives(
        &mut self,
        error: &ValidationError<'_>,
        at: String,
        alternatives: &[Vec<ValidationError<'static>>],
    ) {
        let here = error.instance_path().as_str();
        // Where the reading ended in the middle of them, nothing more is known than that none matches.
        if !alternatives.iter().flatten().all(is_true) {
            return self.found.push(Violation::of(at, keyword(error), no_form(alternatives.len())));
        }
        let meant: Vec<_> = alternatives
            .iter()
            .filter(|violations| !violations.is_empty() && !violations.iter().any(|error| is_other(here, error)))
            .collect();
        if let [meant] = meant[..] {
            return meant.iter().for_each(|error| self.tell(error));
        }
        if let Some(missing) = missing_names(here, alternatives) {
            let predicate = format!("must have {}", any_of(missing.iter().map(|names| both(names).into())));
            let expected: Vec<_> = missing.iter().map(|names| json!({ "required": names })).collect();
            let violation = Violation::of(at, keyword(error), predicate);
            return self.found.push(violation.expecting(json!({ keyword(error): expected })));
        }
        let firsts = || alternatives.iter().map(|violations| violations.iter().find(|error| is_other(here, error)));
        if let Some(types) = firsts()
            .map(|error| match error?.kind() {
                Kind::Type { kind } if error?.instance_path().as_str() == here => Some(types(kind)),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
        {
            let types = types.concat();
            let predicate = format!("must be {}", any_of(types.iter().copied().map(with_article)));
            return self.found.push(Violation::of(at, "type", predicate).expecting(json!({ "type": names(&types) })));
        }
        if let Some(tags) = firsts()
            .map(|error| match error?.kind() {
                Kind::Constant { expected_value } => {
                    Some((error?.instance_path().as_str(), vec![Value::clone(expected_value)]))
                }
                Kind::Enum { options } => Some((error?.instance_path().as_str(), options.as_array()?.clone())),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            && let Some((place, _)) = tags.first()
            && tags.iter().all(|(other, _)| other == place)
        {
            let place = (*place).to_owned();
            let tags: Vec<_> = tags.into_iter().flat_map(|(_, tags)| tags).collect();
            let hint = self.nearest_option(&place, &tags);
            return self.found.push(one_of(pointer_of(&place), &tags).with_hint(hint));
        }
        self.found.push(Violation::of(at, keyword(error), no_form(alternatives.len())));
    }
}

fn no_form(count: usize) -> String {
    format!("does not match any of the {count} forms that are allowed")
}

/// The object that an error is about.
fn given<'a>(input: &'a Value, error: &ValidationError<'_>) -> Option<&'a Map<String, Value>> {
    input.pointer(error.instance_path().as_str())?.as_object()
}

/// Whether the violation shows that the alternative was not meant: its type is another, or its tag.
fn is_other(here: &str, error: &ValidationError<'_>) -> bool {
    let place = error.instance_path().as_str();
    let Some(below) = place.strip_prefix(here) else { return false };
    match error.kind() {
        Kind::Type { .. } => below.is_empty(),
        Kind::Constant { .. } | Kind::Enum { .. } => below.matches('/').count() <= 1,
        _ => false,
    }
}

/// What each alternative misses here, if that is all that is wrong with any.
fn missing_names<'a>(here: &str, alternatives: &'a [Vec<ValidationError<'static>>]) -> Option<Vec<Vec<&'a str>>> {
    let missing = |error: &'a ValidationError<'static>| match error.kind() {
        Kind::Required { property } if error.instance_path().as_str() == here => property.as_str(),
        _ => None,
    };
    let missing: Vec<Vec<_>> = alternatives
        .iter()
        .map(|violations| violations.iter().map(missing).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty()))
        .collect::<Option<_>>()?;
    (missing.iter().map(Vec::len).sum::<usize>() <= MAX_OPTIONS).then_some(missing)
}

/// The names of which only one may be there, if that is what the alternatives ask for.
fn exclusive_names(
    references: &References,
    error: &ValidationError<'_>,
    alternatives: &[Vec<ValidationError<'static>>],
) -> Option<String> {
    let all = references.root().pointer(error.schema_path().as_str())?.as_array()?;
    let required = |alternative: &Value| -> Option<Vec<String>> {
        let names = alternative.get("required")?.as_array()?.iter();
        names.map(|name| Some(name.as_str()?.to_owned())).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
    };
    let matching = all.iter().zip(alternatives).filter(|(_, violations)| violations.is_empty());
    let groups: Vec<_> = matching.map(|(alternative, _)| required(alternative)).collect::<Option<_>>()?;
    let names: Vec<_> = groups.iter().map(|names| both(names)).collect();
    (groups.len() > 1 && groups.iter().map(Vec::len).sum::<usize>() <= MAX_OPTIONS).then(|| names.join(" and "))
}

/// Several names that belong together.
fn both(names: &[impl AsRef<str>]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(" with ")
}

/// Whether a place in a schema is what is said of all properties that are not named: a keyword, and no property of that name.
fn is_of_all_properties(place: &str) -> bool {
    let mut parts = place.split('/').skip(1).peekable();
    while let Some(keyword) = parts.next() {
        if parts.peek().is_none() {
            return matches!(keyword, "additionalProperties" | "unevaluatedProperties");
        }
        match keyword {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies" => {
                parts.next();
            }
            // One of a list; `items` had lists in older drafts.
            _ => drop(parts.next_if(|part| part.bytes().all(|byte| byte.is_ascii_digit()))),
        }
    }
    false
}

/// The names that the schema knows where the error found one that it does not.
fn known_names<'a>(references: &'a References, error: &ValidationError<'_>) -> Vec<&'a str> {
    let root = references.root();
    let keyword = error.schema_path().as_str();
    let Some(parent) = keyword.rfind('/').and_then(|end| root.pointer(&keyword[..end])) else { return Vec::new() };
    let mut names: Vec<_> = references
        .views(parent)
        .into_iter()
        .filter_map(|view| view.get("properties")?.as_object())
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    names.dedup();
    names
}
