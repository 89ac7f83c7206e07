//! What the layer keeps for a tool that it acts on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use turbomcp_types::{Tool, ToolInputSchema, ToolOutputSchema};

use super::LAYER;
use super::checks::Placed;
use super::defaults::Defaults;
use super::hints::Hints;
use super::limits::Limits;
use super::rules::Rule;
use super::schema::Schema;
use super::settings::{Check, Settings, TypedCheck};
use super::typed::{TypedError, WireNames};
use super::violations::{Collector, Violations};
use crate::ConfigError;
use crate::arguments::{LayerArguments, own_schema};
use crate::references::References;
use crate::telemetry::Counter;

#[derive(Debug)]
pub(super) struct ToolPlan {
    tool: String,
    /// The arguments of inner layers.
    pub(super) arguments: LayerArguments,
    /// The schema as the tool's author wrote it.
    input: ToolInputSchema,
    output: Option<ToolOutputSchema>,
    pub(super) limits: Limits,
    /// `None` for a tool that was added later with a schema that cannot be compiled.
    checks: Option<Checks>,
    counters: [Counter; Outcome::ALL.len()],
}

#[derive(Debug)]
struct Checks {
    input: Schema,
    output: Option<Schema>,
    /// `None` if there is no default to fill in.
    defaults: Option<Defaults>,
    typed: Vec<Placed<TypedCheck>>,
    rules: Vec<Placed<Rule>>,
    names: Option<BTreeMap<String, String>>,
}

impl ToolPlan {
    pub(super) fn new(tool: &Tool, settings: &Settings) -> Result<Self, ConfigError> {
        let compile = |schema: &'static str, source: &Value| {
            let error = match Schema::compile_with(source, &settings.formats) {
                Ok(schema) => return Ok(schema),
                Err(error) => error,
            };
            let mistake =
                ConfigError::InvalidSchema { layer: LAYER, tool: tool.name.clone(), schema, reason: error.to_string() };
            if settings.allows_invalid_schemas {
                tracing::error!(%mistake, tool = tool.name, "the schema of a tool is invalid and is not applied");
                return Ok(Schema::unchecked(source));
            }
            Err(mistake)
        };
        let tool = &authored(tool);
        let source = input_schema(&tool.input_schema);
        let input = compile("inputSchema", &source)?;
        let output = match tool.output_schema.as_ref().filter(|_| settings.checks_output) {
            None => None,
            Some(schema) => Some(compile("outputSchema", &serde_json::to_value(schema).unwrap_or_default())?),
        };
        let (mut typed, mut rules) = (Vec::new(), Vec::new());
        for check in settings.checks.iter().filter(|check| check.tool() == tool.name) {
            match check {
                Check::Typed { place, fields, check, .. } => {
                    typed.push(Placed::new(tool, place, *fields, "typed_at", input.references(), *check)?);
                }
                Check::Rule { place, fields, rule, .. } => {
                    rules.push(Placed::new(tool, place, *fields, "rule_at", input.references(), rule.clone())?);
                }
            }
        }
        let checks = Checks {
            defaults: settings.fills_defaults.then(|| defaults(tool, input.references(), settings)).flatten(),
            input,
            output,
            typed,
            rules,
            names: settings.names.get(&tool.name).cloned(),
        };
        let limits = settings.limits_for.get(&tool.name).unwrap_or(&settings.limits).clone();
        Ok(Self { limits, checks: Some(checks), ..Self::unusable(tool) })
    }

    /// Creates a plan that rejects every call.
    pub(super) fn unusable(tool: &Tool) -> Self {
        let counters = Outcome::ALL.map(|outcome| {
            Counter::new("mcp_patterns_validation_total", &[("tool", &tool.name), ("outcome", outcome)])
        });
        Self {
            tool: tool.name.clone(),
            arguments: LayerArguments::of(tool),
            input: own_schema(tool).into_owned(),
            output: tool.output_schema.clone(),
            limits: Limits::new(),
            checks: None,
            counters,
        }
    }

    /// Returns whether the plan was made from this definition of the tool.
    pub(super) fn is_of(&self, tool: &Tool) -> bool {
        self.arguments == LayerArguments::of(tool)
            && self.input == *own_schema(tool)
            && self.output == tool.output_schema
    }

    pub(super) fn tool(&self) -> &str {
        &self.tool
    }

    pub(super) fn is_usable(&self) -> bool {
        self.checks.is_some()
    }

    /// Fills in the defaults, and finds the violations of the schema and the types. If there are some, `args` is unchanged.
    pub(super) fn find(&self, args: &mut Value, hints: &mut Hints, found: &mut Collector) {
        let Some(checks) = &self.checks else { return };
        let given = checks.defaults.as_ref().map(|defaults| {
            let given = args.clone();
            defaults.fill(checks.input.references(), args);
            given
        });
        let given = given.and_then(|given| {
            // Defaults that contradict the arguments or each other are no reason to reject the call.
            if !checks.input.is_valid(args) && checks.input.is_valid(&given) {
                *args = given;
                return None;
            }
            Some(given)
        });
        Self::find_in(checks, args, hints, found);
        if let Some(given) = given.filter(|_| !found.is_empty()) {
            *args = given;
        }
    }

    fn find_in(checks: &Checks, args: &Value, hints: &mut Hints, found: &mut Collector) {
        checks.input.find(args, hints, found);
        for typed in &checks.typed {
            let Some(value) = typed.of(args) else { continue };
            match (typed.check)(value) {
                Ok(()) => {}
                // If the schema has rejected the value, the type cannot be read from it, and the violation is known.
                Err(TypedError::Decode(violation)) => {
                    if found.is_empty() {
                        found.push(violation.below(&typed.pointer));
                    }
                }
                Err(TypedError::Validate(errors)) => {
                    let references = checks.input.references();
                    let names = WireNames { references, explicit: checks.names.as_ref() };
                    names.report(&errors, &typed.pointer, typed.schema(references.root()), found);
                }
            }
        }
    }

    pub(super) fn has_rules(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| !checks.rules.is_empty())
    }

    /// Returns the rules, each with the pointer and the value of the part that it is about.
    pub(super) fn rules<'a>(&'a self, args: &'a Value) -> impl Iterator<Item = (&'a Rule, &'a str, &'a Value)> {
        let rules = self.checks.iter().flat_map(|checks| &checks.rules);
        rules.filter_map(|rule| Some((&rule.check, rule.pointer.as_str(), rule.of(args)?)))
    }

    pub(super) fn check_output(&self, content: &Value) -> Result<(), Violations> {
        match self.checks.as_ref().and_then(|checks| checks.output.as_ref()) {
            Some(schema) => schema.check(content),
            None => Ok(()),
        }
    }

    pub(super) fn count(&self, outcome: Outcome) {
        tracing::debug!(tool = self.tool, validation = Outcome::ALL[outcome as usize]);
        self.counters[outcome as usize].increment();
    }
}

/// Everything else follows from the tool and the settings.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.tool, &self.arguments) == (&other.tool, &other.arguments)
            && self.input == other.input
            && self.output == other.output
    }
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Valid,
    Refused,
    RuleFailed,
    BadOutput,
}

impl Outcome {
    /// In the order of the variants.
    const ALL: [&'static str; 4] = ["valid", "refused", "rule_failed", "bad_output"];
}

/// Returns the schema that the arguments must match. The schema that `Tool::new` makes if the author has given none allows any
/// arguments, although by its letter it rejects all. A tool that takes none has a schema without `$schema`, or empty `properties`.
fn input_schema(schema: &ToolInputSchema) -> Value {
    let mut source = serde_json::to_value(schema).unwrap_or_default();
    if *schema == ToolInputSchema::default()
        && let Some(keywords) = source.as_object_mut()
    {
        keywords.remove("additionalProperties");
    }
    source
}

/// Returns the defaults that are filled in.
fn defaults(tool: &Tool, references: &References, settings: &Settings) -> Option<Defaults> {
    let defaults = Defaults::of(references, &settings.formats);
    for pointer in defaults.refused() {
        tracing::warn!(tool = tool.name, pointer, "a default does not match its own schema, and is not filled in");
    }
    (!defaults.is_empty()).then_some(defaults)
}

/// Returns the tool without the changes of inner layers to its schema.
fn authored(tool: &Tool) -> Cow<'_, Tool> {
    match own_schema(tool) {
        Cow::Borrowed(_) => Cow::Borrowed(tool),
        Cow::Owned(input_schema) => Cow::Owned(Tool { input_schema, ..tool.clone() }),
    }
}
