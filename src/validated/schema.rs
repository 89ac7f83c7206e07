use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::formats::Formats;
use super::hints::Hints;
use super::meter::{Meter, is_true};
use super::metered::{Metered, Reading};
use super::patterns;
use super::pointer::by_place;
use super::report::Reporter;
use super::violation::Violation;
use super::violations::{Collector, MAX_LISTED, Violations};
use super::walk::{Extent, depth};
use crate::references::References;

/// The deepest schema that is compiled, since the compiler recurses.
const DEEPEST: usize = 128;

/// The maximum number of errors that the validator creates, those of alternatives included.
const MAX_ERRORS: usize = 1_000;

/// The longest pointer that is reported, in bytes: each error has its pointer in full.
const MAX_POINTER_BYTES: usize = 64 * 1024;

/// The limit of reads for a report, in steps: a base, a number for each value and each 16 bytes of text, and a multiple of the steps
/// of the verdict.
const REPORT_STEPS: (u64, u64, u64) = (20_000, 64, 4);

/// A compiled JSON Schema: draft 2020-12 unless its `$schema` says otherwise. Formats are asserted, patterns match in linear time, and
/// nothing is fetched.
///
/// # Example
///
/// ```
/// use mcp_patterns::validated::Schema;
/// use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = Schema::compile(&json!({
///     "type": "object",
///     "properties": {"email": {"type": "string", "format": "email"}},
///     "required": ["email"],
/// }))?;
/// assert!(schema.check(&json!({"email": "ada@example.org"})).is_ok());
///
/// let refused = schema.check(&json!({"email": "nonsense"})).unwrap_err();
/// assert_eq!(refused.to_string(), "`email` must be an email address");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Schema {
    /// `None` for a schema that could not be compiled, which then accepts every value.
    validator: Option<Validator<Reading>>,
    references: References,
}

/// The error of a schema that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError(String);

impl Schema {
    /// Compiles a schema. All formats are asserted.
    ///
    /// # Errors
    ///
    /// If the value is not a schema, refers to itself without end, names an unknown dialect or an external schema, or has a pattern
    /// that cannot be matched in linear time (one with look-around or back-references).
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        Self::compile_with(schema, &Formats::all())
    }

    /// Compiles a schema that asserts these formats.
    ///
    /// # Errors
    ///
    /// Those of [`compile`](Self::compile), and if `formats` excludes a name that is not a format.
    pub fn compile_with(schema: &Value, formats: &Formats) -> Result<Self, SchemaError> {
        if depth(schema) > DEEPEST {
            return Err(SchemaError(format!("it is nested deeper than {DEEPEST} levels")));
        }
        formats.check().map_err(SchemaError)?;
        let references = References::of(schema.clone());
        if references.is_endless() {
            return Err(SchemaError("a part of it refers to itself without end".to_owned()));
        }
        let options = formats.options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = options.build(schema).map_err(|error| {
            let place = error.instance_path().as_str();
            let unsupported = if place.contains("pattern") { patterns::unsupported(schema) } else { None };
            SchemaError(unsupported.unwrap_or_else(|| format!("at `{place}`: {error}")))
        })?;
        Ok(Self { validator: Some(validator), references })
    }

    /// Creates a schema that accepts every value.
    pub(super) fn unchecked(schema: &Value) -> Self {
        Self { validator: None, references: References::of(schema.clone()) }
    }

    /// Checks a value, and reports all violations.
    ///
    /// The depth and the size of the value are not limited here: see [`Limits`](super::Limits).
    ///
    /// # Errors
    ///
    /// The violations, of which 20 are listed and 1,000 are counted.
    pub fn check(&self, value: &Value) -> Result<(), Violations> {
        let mut found = Collector::new(MAX_LISTED);
        self.find(value, &mut Hints::new(), &mut found);
        found.into_result()
    }

    pub(super) fn is_valid(&self, value: &Value) -> bool {
        let meter = Meter::unbounded();
        self.validator.as_ref().is_none_or(|validator| validator.is_valid(Metered::new(value, &meter)))
    }

    /// Finds the violations, and returns the steps of the verdict and of the report.
    pub(super) fn find(&self, value: &Value, hints: &mut Hints, found: &mut Collector) -> (u64, u64) {
        let Some(validator) = &self.validator else { return (0, 0) };
        let verdict = Meter::unbounded();
        if validator.is_valid(Metered::new(value, &verdict)) {
            return (verdict.steps(), 0);
        }
        let extent = Extent::of(value);
        let (at_least, per_value, per_step) = REPORT_STEPS;
        let max_steps = at_least + per_value * extent.steps + per_step * verdict.steps();
        let max_errors = MAX_ERRORS.max(found.max_listed());
        let reporting = Meter::new(max_steps, max_errors, extent.longest_pointer);
        if extent.longest_pointer <= MAX_POINTER_BYTES {
            let mut errors: Vec<_> = validator.iter_errors(Metered::new(value, &reporting)).filter(is_true).collect();
            errors.sort_by(|one, other| by_place(one.instance_path().as_str(), other.instance_path().as_str()));
            let mut reporter = Reporter { references: &self.references, input: value, hints, found };
            errors.iter().for_each(|error| reporter.report(error));
            if reporting.is_over() {
                found.leave_open();
            }
        }
        if found.is_empty() {
            found.push(Violation::of(String::new(), "schema", "does not match the schema"));
        }
        (verdict.steps(), reporting.steps())
    }

    /// Returns the schema with its references.
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
