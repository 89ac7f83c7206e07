//! Turns the validator's errors into violations: as many as are listed. Further ones are counted.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value, json};

use super::hints::Hints;
use super::messages::{MAX_OPTIONS, describe, keyword, names, one_of, options, types};
use super::meter::is_true;
use super::phrases::{any_of, with_article};
use super::pointer::{pointer_of, push_name};
use super::violation::Violation;
use super::violations::Collector;
use crate::references::References;

/// Reports the errors of one input as violations.
pub(super) struct Reporter<'a> {
    pub(super) references: &'a References,
    pub(super) input: &'a Value,
    pub(super) hints: &'a mut Hints,
    pub(super) found: &'a mut Collector,
}

impl Reporter<'_> {
    /// Reports an error. Once the list is full, errors are counted and not worded.
    pub(super) fn report(&mut self, error: &ValidationError<'_>) {
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
                self.report_unknown(keyword(error), &at, unexpected.iter().map(String::as_str), &known, error);
            }
            // Without known properties, all properties are unknown.
            Kind::FalseSchema if is_of_all_properties(error.schema_path().as_str()) => {
                let names = given(self.input, error).into_iter().flat_map(Map::keys).map(String::as_str);
                self.report_unknown("additionalProperties", &at, names, &[], error);
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.report_alternatives(error, at, context),
            Kind::OneOfMultipleValid { context } => {
                let predicate = match exclusive_names(self.references, error, context) {
                    Some(names) => format!("must have only one of {names}"),
                    None => "matches more than one of the forms that exclude each other".to_owned(),
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
                    Some(expected) => violation.with_expected(json!({ keyword(error): expected })),
                    None => violation,
                });
            }
        }
    }

    fn is_full(&self) -> bool {
        self.found.count() >= self.found.max_listed()
    }

    /// Returns how many violations an error stands for.
    fn count(&self, error: &ValidationError<'_>) -> usize {
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => unexpected.len(),
            Kind::FalseSchema if is_of_all_properties(error.schema_path().as_str()) => {
                given(self.input, error).map_or(1, Map::len)
            }
            _ => 1,
        }
    }

    fn report_unknown<'n>(
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
                false => {
                    violation.with_expected(json!({ "properties": options(known.iter().map(|name| json!(name))) }))
                }
            });
        }
    }

    fn nearest_option(&mut self, place: &str, options: &[Value]) -> Option<String> {
        let given = self.input.pointer(place)?.as_str()?;
        self.hints.nearest(given, options.iter().filter_map(Value::as_str))
    }

    /// Reports the violations of the alternative that was meant, if the others have another type or another tag.
    fn report_alternatives(
        &mut self,
        error: &ValidationError<'_>,
        at: String,
        alternatives: &[Vec<ValidationError<'static>>],
    ) {
        let here = error.instance_path().as_str();
        // If the reading ended within the alternatives, it is only known that none matches.
        if !alternatives.iter().flatten().all(is_true) {
            return self.found.push(Violation::of(at, keyword(error), no_form(alternatives.len())));
        }
        let meant: Vec<_> = alternatives
            .iter()
            .filter(|violations| !violations.is_empty() && !violations.iter().any(|error| is_other(here, error)))
            .collect();
        if let [meant] = meant[..] {
            return meant.iter().for_each(|error| self.report(error));
        }
        if let Some(missing) = missing_names(here, alternatives) {
            let predicate = format!("must have {}", any_of(missing.iter().map(|names| both(names).into())));
            let expected: Vec<_> = missing.iter().map(|names| json!({ "required": names })).collect();
            let violation = Violation::of(at, keyword(error), predicate);
            return self.found.push(violation.with_expected(json!({ keyword(error): expected })));
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
            return self
                .found
                .push(Violation::of(at, "type", predicate).with_expected(json!({ "type": names(&types) })));
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

/// Returns the object that an error is about.
fn given<'a>(input: &'a Value, error: &ValidationError<'_>) -> Option<&'a Map<String, Value>> {
    input.pointer(error.instance_path().as_str())?.as_object()
}

/// Returns whether the error shows that the alternative was not meant: it has another type or another tag.
fn is_other(here: &str, error: &ValidationError<'_>) -> bool {
    let place = error.instance_path().as_str();
    let Some(below) = place.strip_prefix(here) else { return false };
    match error.kind() {
        Kind::Type { .. } => below.is_empty(),
        Kind::Constant { .. } | Kind::Enum { .. } => below.matches('/').count() <= 1,
        _ => false,
    }
}

/// Returns the names that each alternative misses here, if there are no other violations.
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

/// Returns the names of which only one may be given, if the alternatives differ in that only.
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

/// Joins names that belong together.
fn both(names: &[impl AsRef<str>]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(" with ")
}

/// Returns whether a place in a schema is the keyword for all properties that are not named, and not a property with that name.
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

/// Returns the known names of the object in which the error found an unknown one.
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
