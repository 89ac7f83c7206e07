//! The messages of violations of a schema. They repeat nothing of the value.

use std::borrow::Cow;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::{Value, json};

use super::phrases::{MAX_QUOTED, any_of, counted, format_name, properties, shown, with_article};
use super::violation::Violation;

/// The number of options that a message lists.
pub(super) const MAX_OPTIONS: usize = 50;

/// Returns the keyword that rejected the value, which is the code of the violation.
pub(super) fn keyword(error: &ValidationError<'_>) -> &'static str {
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

pub(super) type Description = (Cow<'static, str>, Option<Value>);

/// Returns the predicate of the message, and the expected value for machines.
pub(super) fn describe(kind: &Kind) -> Description {
    let described = |predicate: String, expected: Value| (predicate.into(), Some(expected));
    let plain = |predicate: &'static str| (predicate.into(), None);
    match kind {
        Kind::Type { kind } => {
            let types = types(kind);
            described(format!("must be {}", any_of(types.iter().copied().map(with_article))), names(&types))
        }
        Kind::Constant { expected_value } => {
            described(format!("must be {}", shown(expected_value)), Value::clone(expected_value))
        }
        Kind::MinLength { limit } => {
            described(format!("must have at least {}", counted(*limit, "character")), json!(limit))
        }
        Kind::MaxLength { limit } => {
            described(format!("must have at most {}", counted(*limit, "character")), json!(limit))
        }
        Kind::MinItems { limit } => described(format!("must have at least {}", counted(*limit, "item")), json!(limit)),
        Kind::MaxItems { limit } => described(format!("must have at most {}", counted(*limit, "item")), json!(limit)),
        Kind::AdditionalItems { limit } => {
            let limit = u64::try_from(*limit).unwrap_or(u64::MAX);
            described(format!("must have at most {}", counted(limit, "item")), json!(limit))
        }
        Kind::UnevaluatedItems { .. } => plain("has more items than are known here"),
        Kind::MinProperties { limit } => described(format!("must have at least {}", properties(*limit)), json!(limit)),
        Kind::MaxProperties { limit } => described(format!("must have at most {}", properties(*limit)), json!(limit)),
        Kind::Minimum { limit } => described(format!("must be at least {limit}"), limit.clone()),
        Kind::Maximum { limit } => described(format!("must be at most {limit}"), limit.clone()),
        Kind::ExclusiveMinimum { limit } => described(format!("must be greater than {limit}"), limit.clone()),
        Kind::ExclusiveMaximum { limit } => described(format!("must be less than {limit}"), limit.clone()),
        Kind::MultipleOf { multiple_of } => {
            described(format!("must be a multiple of {multiple_of}"), json!(multiple_of))
        }
        Kind::Pattern { pattern } if pattern.len() <= MAX_QUOTED => {
            described(format!("must match the pattern `{pattern}`"), json!(pattern))
        }
        Kind::Pattern { .. } => plain("must match the pattern of its schema"),
        Kind::Format { format } => described(format!("must be {}", format_name(format)), json!(format)),
        Kind::ContentEncoding { content_encoding } => {
            described(format!("must be encoded as {content_encoding}"), json!(content_encoding))
        }
        Kind::FromUtf8 { .. } => plain("must be encoded text"),
        Kind::ContentMediaType { content_media_type } => {
            described(format!("must be of the media type {content_media_type}"), json!(content_media_type))
        }
        Kind::UniqueItems => plain("must not have the same item twice"),
        Kind::Contains => plain("does not have the items that it must contain"),
        Kind::FalseSchema => plain("is not allowed here"),
        Kind::Not { .. } => plain("has a form that is not allowed"),
        Kind::OneOfMultipleValid { .. } => plain("matches more than one of the forms that exclude each other"),
        Kind::PropertyNames { error } => {
            let (predicate, expected) = describe(error.kind());
            let expected = expected.map(|expected| json!({ keyword(error): expected }));
            (format!("has a property whose name is wrong: it {predicate}").into(), expected)
        }
        _ => plain("does not match its schema"),
    }
}

/// Returns the violation of a value that must be one of these.
pub(super) fn one_of(at: String, all: &[Value]) -> Violation {
    let predicate = match all.len() > MAX_OPTIONS {
        true => "must be one of the values of its schema".to_owned(),
        false => format!("must be {}", any_of(all.iter().map(|option| shown(option).into()))),
    };
    Violation::of(at, "enum", predicate).with_expected(json!({ "enum": options(all.iter().cloned()) }))
}

pub(super) fn options(all: impl Iterator<Item = Value>) -> Value {
    all.take(MAX_OPTIONS).collect()
}

pub(super) fn types(kind: &TypeKind) -> Vec<&'static str> {
    match kind {
        TypeKind::Single(one) => vec![one.as_str()],
        TypeKind::Multiple(several) => several.iter().map(JsonType::as_str).collect(),
    }
}

pub(super) fn names(types: &[&str]) -> Value {
    match types {
        [one] => json!(one),
        several => json!(several),
    }
}
