//! What the layer keeps for a tool that it acts on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use turbomcp_types::{Tool, ToolInputSchema, ToolOutputSchema};

use super::checks::Placed;
use super::defaults::Defaults;
use super::hints::Hints;
use super::limits::Limits;
use super::rules::Rule;
use super::schema::Schema;
use super::settings::{Check, LAYER, Settings, TypedCheck};
use super::typed::{Mistake, Names};
use super::violations::{Found, Violations};
use crate::ConfigError;
use crate::arguments::{LayerArguments, own_schema};
use crate::references::References;
use crate::telemetry::Counter;

#[derive(Debug)]
pub(super) struct ToolPlan {
    tool: String,
    /// Those of layers further in, which are none of the tool's.
    pub(super) arguments: LayerArguments,
    /// As the tool's author wrote it.
    input: ToolInputSchema,
    output: Option<ToolOutputSchema>,
    pub(super) limits: Limits,
    /// `None` for a tool that came later, with a schema that cannot be compiled.
    checks: Option<Checks>,
    counters: [Counter; Outcome::ALL.len()],
}

#[derive(Debug)]
struct Checks {
    input: Schema,
    output: Option<Schema>,
    /// `None` where there is nothing to be filled in.
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
            if settings.leaves_out_bad_schemas {
                tracing::error!(%mistake, tool = tool.name, "the schema of a tool is left out: nothing is held against it");
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

    /// A plan that lets nothing through.
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

    /// Says whether the plan was made of the tool as it is.
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

    /// Fills in the defaults, and finds what the schema and the types refuse. Where they refuse something, `args` are as they
    /// were given.
    pub(super) fn find(&self, args: &mut Value, hints: &mut Hints, found: &mut Found) {
        let Some(checks) = &self.checks else { return };
        let given = checks.defaults.as_ref().map(|defaults| {
            let given = args.clone();
            defaults.fill(checks.input.references(), args);
            given
        });
        let given = given.and_then(|given| {
            // Defaults that do not go with what was given, or with each other, are no reason to refuse it.
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

    fn find_in(checks: &Checks, args: &Value, hints: &mut Hints, found: &mut Found) {
        checks.input.find(args, hints, found);
        for typed in &checks.typed {
            let Some(value) = typed.of(args) else { continue };
            match (typed.asked)(value) {
                Ok(()) => {}
                // What the schema refuses, the type cannot be read from: that is told already.
                Err(Mistake::Undecodable(violation)) => {
                    if found.is_empty() {
                        found.push(violation.below(&typed.pointer));
                    }
                }
                Err(Mistake::Invalid(errors)) => {
                    let references = checks.input.references();
                    let names = Names { references, explicit: checks.names.as_ref() };
                    names.tell(&errors, &typed.pointer, typed.schema(references.root()), found);
                }
            }
        }
    }

    pub(super) fn has_rules(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| !checks.rules.is_empty())
    }

    /// The rules, each with the part of the arguments that it is about and where that is.
    pub(super) fn rules<'a>(&'a self, args: &'a Value) -> impl Iterator<Item = (&'a Rule, &'a str, &'a Value)> {
        let rules = self.checks.iter().flat_map(|checks| &checks.rules);
        rules.filter_map(|rule| Some((&rule.asked, rule.pointer.as_str(), rule.of(args)?)))
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

/// What became of a call.
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

/// The schema that the arguments must match. What `Tool::new` makes for a tool whose author has given none says nothing about its
/// arguments, although it refuses each by its letter. A tool that takes none says so without a `$schema`, or with empty `properties`.
fn input_schema(schema: &ToolInputSchema) -> Value {
    let mut source = serde_json::to_value(schema).unwrap_or_default();
    if *schema == ToolInputSchema::default()
        && let Some(keywords) = source.as_object_mut()
    {
        keywords.remove("additionalProperties");
    }
    source
}

/// The defaults that are filled in.
fn defaults(tool: &Tool, references: &References, settings: &Settings) -> Option<Defaults> {
    let defaults = Defaults::of(references, &settings.formats);
    for pointer in defaults.refused() {
        tracing::warn!(tool = tool.name, pointer, "a default does not match its own schema, and is not filled in");
    }
    (!defaults.is_empty()).then_some(defaults)
}

/// A tool without what layers further in have made of its schema.
fn authored(tool: &Tool) -> Cow<'_, Tool> {
    match own_schema(tool) {
        Cow::Borrowed(_) => Cow::Borrowed(tool),
        Cow::Owned(input_schema) => Cow::Owned(Tool { input_schema, ..tool.clone() }),
    }
}
