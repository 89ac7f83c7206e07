//! What a violation of a schema is called, in words that repeat nothing of the value.

use std::borrow::Cow;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::{Map, Value, json};

use super::hints::nearest;
use super::pointer::{pointer_of, push_name};
use super::references::views;
use super::violation::Violation;
use super::violations::Found;
use super::words::{MAX_TOLD, any_of, counted, format_name, properties, shown, with_article};

/// How many options of a list are told.
const MAX_OPTIONS: usize = 50;

/// Puts what the schema found wrong into words.
pub(super) fn tell(schema: &Value, input: &Value, error: &ValidationError<'_>, found: &mut Found) {
    let at = pointer_of(error.instance_path().as_str());
    match error.kind() {
        Kind::Required { property } => {
            let mut at = at;
            push_name(&mut at, property.as_str().unwrap_or_default());
            found.push(Violation::of(at, "required", "is missing"));
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = known_names(schema, error);
            let given = input.pointer(error.instance_path().as_str()).and_then(Value::as_object);
            for name in unexpected {
                let mut at = at.clone();
                push_name(&mut at, name);
                let free = known.iter().copied().filter(|known| given.is_none_or(|given| !given.contains_key(*known)));
                let violation = Violation::of(at, keyword(error), "is not known here").with_hint(nearest(name, free));
                found.push(match known.is_empty() {
                    true => violation,
                    false => {
                        violation.expecting(json!({ "properties": options(known.iter().map(|name| json!(name))) }))
                    }
                });
            }
        }
        // Where no property is known, that is all that is said of any.
        Kind::FalseSchema if error.schema_path().as_str().ends_with("Properties") => {
            let given = input.pointer(error.instance_path().as_str()).and_then(Value::as_object);
            for name in given.into_iter().flat_map(Map::keys) {
                let mut at = at.clone();
                push_name(&mut at, name);
                found.push(Violation::of(at, "additionalProperties", "is not known here"));
            }
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            tell_alternatives(schema, input, error, at, context, found);
        }
        Kind::Enum { options: all } => {
            let all = all.as_array().map_or(&[][..], Vec::as_slice);
            let given = input.pointer(error.instance_path().as_str()).and_then(Value::as_str);
            let hint = given.and_then(|given| nearest(given, all.iter().filter_map(Value::as_str)));
            found.push(one_of(at, all).with_hint(hint));
        }
        kind => {
            let (predicate, expected) = describe(kind);
            let violation = Violation::of(at, keyword(error), predicate);
            found.push(match expected {
                Some(expected) => violation.expecting(json!({ keyword(error): expected })),
                None => violation,
            });
        }
    }
}

/// The keyword that refused the value, which is the code of the violation.
fn keyword(error: &ValidationError<'_>) -> &'static str {
    match error.kind() {
        Kind::AdditionalItems { .. } => "additionalItems",
        Kind::AdditionalProperties { .. } => "additionalProperties",
        Kind::AnyOf { .. } => "anyOf",
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } | Kind::Pattern { .. } => "pattern",
        Kind::Constant { .. } => "const",
        Kind::Contains => "contains",
        Kind::ContentEncoding { .. } | Kind::FromUtf8 { .. } => "contentEncoding",
        Kind::ContentMediaType { .. } => "contentMediaType",
        Kind::Enum { .. } => "enum",
        Kind::ExclusiveMaximum { .. } => "exclusiveMaximum",
        Kind::ExclusiveMinimum { .. } => "exclusiveMinimum",
        Kind::FalseSchema => "falseSchema",
        Kind::Format { .. } => "format",
        Kind::MaxItems { .. } => "maxItems",
        Kind::Maximum { .. } => "maximum",
        Kind::MaxLength { .. } => "maxLength",
        Kind::MaxProperties { .. } => "maxProperties",
        Kind::MinItems { .. } => "minItems",
        Kind::Minimum { .. } => "minimum",
        Kind::MinLength { .. } => "minLength",
        Kind::MinProperties { .. } => "minProperties",
        Kind::MultipleOf { .. } => "multipleOf",
        Kind::Not { .. } => "not",
        Kind::OneOfMultipleValid { .. } | Kind::OneOfNotValid { .. } => "oneOf",
        Kind::PropertyNames { .. } => "propertyNames",
        Kind::Required { .. } => "required",
        Kind::Type { .. } => "type",
        Kind::UnevaluatedItems { .. } => "unevaluatedItems",
        Kind::UnevaluatedProperties { .. } => "unevaluatedProperties",
        Kind::UniqueItems => "uniqueItems",
        _ => "schema",
    }
}

type Told = (Cow<'static, str>, Option<Value>);

/// What is to be said of the value, and what the keyword asks for.
fn describe(kind: &Kind) -> Told {
    let told = |predicate: String, expected: Value| (predicate.into(), Some(expected));
    let plain = |predicate: &'static str| (predicate.into(), None);
    match kind {
        Kind::Type { kind } => {
            let types = types(kind);
            told(format!("must be {}", any_of(types.iter().copied().map(with_article))), names(&types))
        }
        Kind::Constant { expected_value } => {
            told(format!("must be {}", shown(expected_value)), Value::clone(expected_value))
        }
        Kind::MinLength { limit } => told(format!("must have at least {}", counted(*limit, "character")), json!(limit)),
        Kind::MaxLength { limit } => told(format!("must have at most {}", counted(*limit, "character")), json!(limit)),
        Kind::MinItems { limit } => told(format!("must have at least {}", counted(*limit, "item")), json!(limit)),
        Kind::MaxItems { limit } => told(format!("must have at most {}", counted(*limit, "item")), json!(limit)),
        Kind::AdditionalItems { limit } => {
            let limit = u64::try_from(*limit).unwrap_or(u64::MAX);
            told(format!("must have at most {}", counted(limit, "item")), json!(limit))
        }
        Kind::UnevaluatedItems { .. } => plain("has more items than are known here"),
        Kind::MinProperties { limit } => told(format!("must have at least {}", properties(*limit)), json!(limit)),
        Kind::MaxProperties { limit } => told(format!("must have at most {}", properties(*limit)), json!(limit)),
        Kind::Minimum { limit } => told(format!("must be at least {limit}"), limit.clone()),
        Kind::Maximum { limit } => told(format!("must be at most {limit}"), limit.clone()),
        Kind::ExclusiveMinimum { limit } => told(format!("must be greater than {limit}"), limit.clone()),
        Kind::ExclusiveMaximum { limit } => told(format!("must be less than {limit}"), limit.clone()),
        Kind::MultipleOf { multiple_of } => told(format!("must be a multiple of {multiple_of}"), json!(multiple_of)),
        Kind::Pattern { pattern } if pattern.len() <= MAX_TOLD => {
            told(format!("must match the pattern `{pattern}`"), json!(pattern))
        }
        Kind::Pattern { .. } => plain("must match the pattern of its schema"),
        Kind::Format { format } => told(format!("must be {}", format_name(format)), json!(format)),
        Kind::ContentEncoding { content_encoding } => {
            told(format!("must be encoded as {content_encoding}"), json!(content_encoding))
        }
        Kind::FromUtf8 { .. } => plain("must be encoded text"),
        Kind::ContentMediaType { content_media_type } => {
            told(format!("must be of the media type {content_media_type}"), json!(content_media_type))
        }
        Kind::UniqueItems => plain("must not have the same item twice"),
        Kind::Contains => plain("does not have the items that it must contain"),
        Kind::FalseSchema => plain("is not allowed here"),
        Kind::Not { .. } => plain("has a form that is not allowed"),
        Kind::OneOfMultipleValid { .. } => plain("matches several of the forms that exclude each other"),
        Kind::PropertyNames { error } => {
            let (predicate, expected) = describe(error.kind());
            let expected = expected.map(|expected| json!({ keyword(error): expected }));
            (format!("has a property whose name is wrong: it {predicate}").into(), expected)
        }
        _ => plain("does not match its schema"),
    }
}

/// Tells what is wrong with the one alternative that was meant, if that can be seen: the others are of another type, or bear
/// another tag.
fn tell_alternatives(
    schema: &Value,
    input: &Value,
    error: &ValidationError<'_>,
    at: String,
    alternatives: &[Vec<ValidationError<'static>>],
    found: &mut Found,
) {
    let here = error.instance_path().as_str();
    let meant: Vec<_> = alternatives
        .iter()
        .filter(|violations| !violations.is_empty() && !violations.iter().any(|error| is_other(here, error)))
        .collect();
    if let [meant] = meant[..] {
        return meant.iter().for_each(|error| tell(schema, input, error, found));
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
        return found.push(Violation::of(at, "type", predicate).expecting(json!({ "type": names(&types) })));
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
        let given = input.pointer(&place).and_then(Value::as_str);
        let hint = given.and_then(|given| nearest(given, tags.iter().filter_map(Value::as_str)));
        return found.push(one_of(pointer_of(&place), &tags).with_hint(hint));
    }
    let predicate = format!("does not match any of the {} forms that are allowed", alternatives.len());
    found.push(Violation::of(at, keyword(error), predicate));
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

fn one_of(at: String, all: &[Value]) -> Violation {
    let predicate = match all.len() > MAX_OPTIONS {
        true => "must be one of the values of its schema".to_owned(),
        false => format!("must be {}", any_of(all.iter().map(|option| shown(option).into()))),
    };
    Violation::of(at, "enum", predicate).expecting(json!({ "enum": options(all.iter().cloned()) }))
}

fn options(all: impl Iterator<Item = Value>) -> Value {
    all.take(MAX_OPTIONS).collect()
}

/// The names that the schema knows where the error found one that it does not.
fn known_names<'a>(schema: &'a Value, error: &ValidationError<'_>) -> Vec<&'a str> {
    let keyword = error.schema_path().as_str();
    let Some(parent) = keyword.rfind('/').and_then(|end| schema.pointer(&keyword[..end])) else { return Vec::new() };
    let mut names: Vec<_> = views(schema, parent)
        .into_iter()
        .filter_map(|view| view.get("properties")?.as_object())
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    names.dedup();
    names
}

fn types(kind: &TypeKind) -> Vec<&'static str> {
    match kind {
        TypeKind::Single(one) => vec![one.as_str()],
        TypeKind::Multiple(several) => several.iter().map(JsonType::as_str).collect(),
    }
}

fn names(types: &[&str]) -> Value {
    match types {
        [one] => json!(one),
        several => json!(several),
    }
}
