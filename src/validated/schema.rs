use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::references::{is_endless, ways};
use super::sentences;
use super::violation::Violation;
use super::violations::{Found, MAX_LISTED, Violations};
use super::walk::depth;

/// The deepest schema that is compiled: the compiler recurses.
const DEEPEST: usize = 128;

/// How often the same part of an input may be looked at to tell what is wrong with it.
const MAX_VISITS: usize = 10_000;

/// A JSON Schema, compiled: draft 2020-12 unless its `$schema` says otherwise, formats asserted, patterns in linear time, and
/// nothing fetched from anywhere.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::Schema;
/// use serde_json::json;
///
/// let schema = Schema::compile(&json!({
///     "type": "object",
///     "properties": {"email": {"type": "string", "format": "email"}},
///     "required": ["email"],
/// }))?;
/// assert!(schema.check(&json!({"email": "ada@example.org"})).is_ok());
///
/// let refused = schema.check(&json!({"email": "nonsense"})).unwrap_err();
/// assert_eq!(refused.to_string(), "`email` must be an email address");
/// # Ok::<(), mcp_patterns::validated::SchemaError>(())
/// ```
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    source: Value,
    /// How many ways lead from a part of an input to the part below it and to the same part of the schema: with two of them,
    /// what is wrong at the bottom is told twice for each level.
    ways: usize,
}

/// Why a schema cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError(String);

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// When it is none, refers to itself without end, names a dialect that is not known or a schema that is elsewhere, or has a
    /// pattern that cannot be matched in linear time (one with look-around or back-references).
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if depth(schema) > DEEPEST {
            return Err(SchemaError(format!("it is nested deeper than {DEEPEST} levels")));
        }
        if is_endless(schema) {
            return Err(SchemaError("a part of it refers to itself, and says nothing".to_owned()));
        }
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex())
            .offline()
            .build(schema)
            .map_err(|error| SchemaError(format!("at `{}`: {error}", error.instance_path().as_str())))?;
        Ok(Self { validator, source: schema.clone(), ways: ways(schema) })
    }

    /// Checks a value and tells everything that is wrong with it.
    ///
    /// How deep and how large it may be is [`Limits`](super::Limits)' business.
    ///
    /// # Errors
    ///
    /// The violations, of which 20 are listed.
    pub fn check(&self, value: &Value) -> Result<(), Violations> {
        let mut found = Found::new(MAX_LISTED);
        self.find(value, &mut found);
        found.into_result()
    }

    pub(super) fn find(&self, value: &Value, found: &mut Found) {
        if self.validator.is_valid(value) {
            return;
        }
        if self.can_be_told(value) {
            for error in self.validator.iter_errors(value) {
                sentences::tell(&self.source, value, &error, found);
            }
        }
        if found.is_empty() {
            found.push(Violation::of(String::new(), "schema", "does not match the schema"));
        }
    }

    /// The schema as it was written.
    pub(super) fn source(&self) -> &Value {
        &self.source
    }

    fn can_be_told(&self, value: &Value) -> bool {
        self.ways < 2
            || u32::try_from(depth(value))
                .ok()
                .and_then(|depth| self.ways.checked_pow(depth))
                .is_some_and(|visits| visits <= MAX_VISITS)
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}
