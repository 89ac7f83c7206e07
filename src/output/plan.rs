//! What the layer knows of a tool.

use std::sync::Arc;

use serde_json::Value;
use turbomcp_types::Tool;

use super::schema::constrains_strings;
use super::settings::Settings;
use crate::selection::Hints;
use crate::telemetry::Counter;

/// How the layer treats a tool.
#[derive(Debug)]
pub(super) struct ToolPlan {
    pub(super) is_read_only: bool,
    /// Whether an answer may lose its end although it is not kept whole.
    pub(super) may_be_cut: bool,
    /// Whether the structured content of a success must stay as it is.
    pub(super) keeps_structure: bool,
    pub(super) redaction: Redacted,
    pub(super) hint: Option<Box<str>>,
    pub(super) counters: Counters,
}

/// What is redacted in the structured content of the tool's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redacted {
    Everything,
    Nothing,
    /// A redacted answer could break the schema, which has this keyword.
    Impossible(&'static str),
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) cut: Counter,
    pub(super) spilled: Counter,
    pub(super) whole: Counter,
    pub(super) too_large: Counter,
}

impl Counters {
    fn new(tool: &str) -> Self {
        let counter = |outcome| Counter::new("mcp_patterns_outputs_total", &[("tool", tool), ("outcome", outcome)]);
        Self {
            cut: counter("cut"),
            spilled: counter("spilled"),
            whole: counter("whole"),
            too_large: counter("too_large"),
        }
    }
}

impl ToolPlan {
    pub(super) fn new(tool: &Tool, settings: &Settings) -> Arc<Self> {
        let schema = tool.output_schema.as_ref();
        let redaction = match schema.filter(|_| settings.redaction.is_some()) {
            _ if settings.unredacted.contains(&tool.name) => Redacted::Nothing,
            None => Redacted::Everything,
            Some(schema) => {
                let schema = serde_json::to_value(schema).unwrap_or(Value::Null);
                constrains_strings(&schema).map_or(Redacted::Everything, Redacted::Impossible)
            }
        };
        let is_read_only = Hints::of(tool).read_only;
        Arc::new(Self {
            is_read_only,
            may_be_cut: is_read_only || settings.may_be_cut.contains(&tool.name),
            keeps_structure: schema.is_some(),
            redaction,
            hint: settings.hints.get(&tool.name).map(|hint| hint.as_str().into()),
            counters: Counters::new(&tool.name),
        })
    }

    /// The plan for all tools that are in no listing. Nothing is known of them but that their answers are bounded.
    pub(super) fn of_unlisted() -> Arc<Self> {
        Arc::new(Self {
            is_read_only: false,
            may_be_cut: false,
            keeps_structure: true,
            redaction: Redacted::Everything,
            hint: None,
            counters: Counters::new("(not listed)"),
        })
    }
}

impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        let parts = |plan: &Self| (plan.is_read_only, plan.may_be_cut, plan.keeps_structure, plan.redaction);
        parts(self) == parts(other) && self.hint == other.hint
    }
}
