use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::formats::Formats;
use super::hints::Hints;
use super::meter::{Meter, is_true};
use super::metered::{Metered, Reading};
use super::patterns;
use super::pointer::by_place;
use super::telling::Telling;
use super::violation::Violation;
use super::violations::{Found, MAX_LISTED, Violations};
use super::walk::{Extent, depth};
use crate::references::References;

/// The deepest schema that is compiled: the compiler recurses.
const DEEPEST: usize = 128;

/// How many errors the validator makes at most, those of alternatives included.
const MAX_ERRORS: usize = 1_000;

/// The longest place that is told, in bytes: each error has its place in full.
const LONGEST_PLACE: usize = 64 * 1024;

/// What may be read to tell what is wrong: so much in any case, so much for each value and each 16 bytes of text, and so many times
/// what the verdict took.
const TELLING_STEPS: (u64, u64, u64) = (20_000, 64, 4);

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
    /// `None` for a schema that could not be compiled, which then refuses nothing.
    validator: Option<Validator<Reading>>,
    references: References,
}

/// Why a schema cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError(String);

impl Schema {
    /// Compiles a schema. All formats are asserted.
    ///
    /// # Errors
    ///
    /// When it is none, refers to itself without end, names a dialect that is not known or a schema that is elsewhere, or has a
    /// pattern that cannot be matched in linear time (one with look-around or back-references).
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        Self::compile_with(schema, &Formats::all())
    }

    /// Compiles a schema that asserts these formats.
    ///
    /// # Errors
    ///
    /// Those of [`compile`](Self::compile).
    pub fn compile_with(schema: &Value, formats: &Formats) -> Result<Self, SchemaError> {
        if depth(schema) > DEEPEST {
            return Err(SchemaError(format!("it is nested deeper than {DEEPEST} levels")));
        }
        let references = References::of(schema.clone());
        if references.is_endless() {
            return Err(SchemaError("a part of it refers to itself, and says nothing".to_owned()));
        }
        let options = formats.options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = options.build(schema).map_err(|error| {
            let place = error.instance_path().as_str();
            let unsupported = if place.contains("pattern") { patterns::unsupported(schema) } else { None };
            SchemaError(unsupported.unwrap_or_else(|| format!("at `{place}`: {error}")))
        })?;
        Ok(Self { validator: Some(validator), references })
    }

    /// A schema that nothing is held against.
    pub(super) fn unchecked(schema: &Value) -> Self {
        Self { validator: None, references: References::of(schema.clone()) }
    }

    /// Checks a value and tells everything that is wrong with it.
    ///
    /// How deep and how large it may be is [`Limits`](super::Limits)' business.
    ///
    /// # Errors
    ///
    /// The violations, of which 20 are listed and 1,000 are counted.
    pub fn check(&self, value: &Value) -> Result<(), Violations> {
        let mut found = Found::new(MAX_LISTED);
        self.find(value, &mut Hints::new(), &mut found);
        found.into_result()
    }

    pub(super) fn is_valid(&self, value: &Value) -> bool {
        let meter = Meter::unbounded();
        self.validator.as_ref().is_none_or(|validator| validator.is_valid(Metered::new(value, &meter)))
    }

    /// Finds what is wrong, and returns how much was read for the verdict and to tell it.
    pub(super) fn find(&self, value: &Value, hints: &mut Hints, found: &mut Found) -> (u64, u64) {
        let Some(validator) = &self.validator else { return (0, 0) };
        let verdict = Meter::unbounded();
        if validator.is_valid(Metered::new(value, &verdict)) {
            return (verdict.steps(), 0);
        }
        let extent = Extent::of(value);
        let (at_least, per_value, per_step) = TELLING_STEPS;
        let max_steps = at_least + per_value * extent.steps + per_step * verdict.steps();
        let max_errors = MAX_ERRORS.max(found.max_listed());
        let telling = Meter::new(max_steps, max_errors, extent.longest_place);
        if extent.longest_place <= LONGEST_PLACE {
            let mut errors: Vec<_> = validator.iter_errors(Metered::new(value, &telling)).filter(is_true).collect();
            errors.sort_by(|one, other| by_place(one.instance_path().as_str(), other.instance_path().as_str()));
            let mut words = Telling { references: &self.references, input: value, hints, found };
            errors.iter().for_each(|error| words.tell(error));
            if telling.is_over() {
                found.leave_open();
            }
        }
        if found.is_empty() {
            found.push(Violation::of(String::new(), "schema", "does not match the schema"));
        }
        (verdict.steps(), telling.steps())
    }

    /// The schema, and where its references lead.
    pub(super) fn references(&self) -> &References {
        &self.references
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}
