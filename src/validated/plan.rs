//! What the layer keeps for a tool that it acts on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use turbomcp_types::{Tool, ToolInputSchema, ToolOutputSchema};

use super::defaults;
use super::hints::nearest;
use super::layer::Settings;
use super::limits::Limits;
use super::references::views;
use super::rules::Rule;
use super::schema::Schema;
use super::typed::{Mistake, Names};
use super::violation::Violation;
use super::violations::{Found, Violations};
use crate::ConfigError;
use crate::arguments::{LayerArguments, own_schema};
use crate::telemetry::Counter;

pub(super) const LAYER: &str = "ValidatedTool";

/// What is asked beyond the schema, as it was set.
#[derive(Clone)]
pub(super) enum Check {
    Typed { tool: String, place: Place, check: TypedCheck },
    Rule { tool: String, place: Place, rule: Rule },
}

pub(super) type TypedCheck = fn(&Value) -> Result<(), Mistake>;

/// Where in the arguments a value is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the only parameter, where that is an object; else the arguments are the value.
    Obvious,
    Parameter(String),
}

impl Check {
    pub(super) fn tool(&self) -> &str {
        match self {
            Self::Typed { tool, .. } | Self::Rule { tool, .. } => tool,
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed { tool, place, .. } => {
                f.debug_struct("Typed").field("tool", tool).field("place", place).finish()
            }
            Self::Rule { tool, place, .. } => f.debug_struct("Rule").field("tool", tool).field("place", place).finish(),
        }
    }
}

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
    fills_defaults: bool,
    typed: Vec<Placed<TypedCheck>>,
    rules: Vec<Placed<Rule>>,
    names: Option<BTreeMap<String, String>>,
}

/// What is asked, and about which part of the arguments.
#[derive(Debug)]
struct Placed<T> {
    parameter: Option<String>,
    pointer: String,
    asked: T,
}

impl<T> Placed<T> {
    fn new(tool: &Tool, place: &Place, setting: &'static str, schema: &Value, asked: T) -> Result<Self, ConfigError> {
        let parameter = match place {
            Place::Obvious => only_object(tool, schema),
            Place::Parameter(name) => Some(known_parameter(tool, name, setting)?),
        };
        let pointer = parameter.as_deref().map(|name| Violation::new("", "").at(name).pointer().to_owned());
        Ok(Self { parameter, pointer: pointer.unwrap_or_default(), asked })
    }

    fn of<'a>(&self, args: &'a Value) -> Option<&'a Value> {
        match &self.parameter {
            None => Some(args),
            Some(name) => args.get(name),
        }
    }

    fn schema<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        match &self.parameter {
            None => Some(root),
            Some(name) => root.get("properties")?.get(name),
        }
    }
}

impl ToolPlan {
    pub(super) fn new(tool: &Tool, settings: &Settings) -> Result<Self, ConfigError> {
        let compile = |schema: &'static str, source: &Value| {
            Schema::compile(source).map_err(|error| ConfigError::InvalidSchema {
                layer: LAYER,
                tool: tool.name.clone(),
                schema,
                reason: error.to_string(),
            })
        };
        let tool = &authored(tool);
        let source = input_schema(&tool.input_schema);
        let output = match tool.output_schema.as_ref().filter(|_| settings.checks_output) {
            None => None,
            Some(schema) => Some(compile("outputSchema", &serde_json::to_value(schema).unwrap_or_default())?),
        };
        let (mut typed, mut rules) = (Vec::new(), Vec::new());
        for check in settings.checks.iter().filter(|check| check.tool() == tool.name) {
            match check {
                Check::Typed { place, check, .. } => {
                    typed.push(Placed::new(tool, place, "typed_at", &source, *check)?);
                }
                Check::Rule { place, rule, .. } => {
                    rules.push(Placed::new(tool, place, "rule_at", &source, rule.clone())?);
                }
            }
        }
        let checks = Checks {
            fills_defaults: settings.fills_defaults && defaults::has_any(&source),
            input: compile("inputSchema", &source)?,
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

    pub(super) fn fills_defaults(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.fills_defaults)
    }

    pub(super) fn is_usable(&self) -> bool {
        self.checks.is_some()
    }

    /// Fills in the defaults, and finds what the schema and the types refuse.
    pub(super) fn find(&self, args: &mut Value, found: &mut Found) {
        let Some(checks) = &self.checks else { return };
        if checks.fills_defaults {
            defaults::fill(checks.input.source(), args);
        }
        checks.input.find(args, found);
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
                    let names = Names { schema: checks.input.source(), explicit: checks.names.as_ref() };
                    names.tell(&errors, &typed.pointer, typed.schema(checks.input.source()), found);
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

/// The schema that the arguments must match. A tool that was written by hand and has no schema refuses every argument by it:
/// what its author did not say is not known.
fn input_schema(schema: &ToolInputSchema) -> Value {
    let says_nothing = schema.properties.is_none() && schema.extra_keywords.keys().all(|keyword| keyword == "$schema");
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    if says_nothing && let Some(keywords) = schema.as_object_mut() {
        keywords.remove("additionalProperties");
    }
    schema
}

/// A tool without what layers further in have made of its schema.
fn authored(tool: &Tool) -> Cow<'_, Tool> {
    match own_schema(tool) {
        Cow::Borrowed(_) => Cow::Borrowed(tool),
        Cow::Owned(input_schema) => Cow::Owned(Tool { input_schema, ..tool.clone() }),
    }
}

fn parameters(tool: &Tool) -> impl Iterator<Item = (&String, &Value)> {
    tool.input_schema.properties.as_ref().and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The only parameter, where that is an object.
fn only_object(tool: &Tool, schema: &Value) -> Option<String> {
    let mut parameters = parameters(tool);
    let (name, parameter) = parameters.next()?;
    let is_object = |view: &Value| {
        let is = view
            .get("type")
            .is_some_and(|is| is == "object" || is.as_array().is_some_and(|is| is.contains(&"object".into())));
        is || view.get("properties").is_some()
    };
    let is_only = parameters.next().is_none();
    // The parameter as it stands in the schema, which its references lead into.
    let parameter = schema.get("properties").and_then(|all| all.get(name)).unwrap_or(parameter);
    (is_only && views(schema, parameter).into_iter().any(is_object)).then(|| name.clone())
}

fn known_parameter(tool: &Tool, name: &str, setting: &'static str) -> Result<String, ConfigError> {
    let known = || parameters(tool).map(|(name, _)| name.as_str());
    if known().any(|known| known == name) || known().next().is_none() {
        return Ok(name.to_owned());
    }
    let fix = match nearest(name, known()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("it has {}", known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(ConfigError::invalid(LAYER, setting, format!("`{}` has no parameter `{name}`: {fix}", tool.name)))
}
