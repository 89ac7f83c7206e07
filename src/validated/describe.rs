//! What the layer says of itself.

use turbomcp_types::Tool;

use super::LAYER;
use super::builder::ValidatedTool;
use super::settings::Check;
use crate::explain::{Description, Role, bytes};

impl ValidatedTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let settings = &self.settings;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let description = Description::of_layer(LAYER, Role::Validate, idle)
            .with_setting("max_violations", settings.max_violations)
            .with_setting("defaults", if settings.fills_defaults { "filled in" } else { "not filled in" })
            .with_setting("output", if settings.checks_output { "checked against its schema" } else { "not checked" })
            .with_setting("unlisted tools", if settings.allows_unlisted { "allowed" } else { "refused" });
        tools.iter().fold(description, |description, tool| match self.decide(tool) {
            Some(plan) => {
                let of_tool = |check: &&Check| check.tool() == tool.name;
                let (mut types, mut rules) = (0, 0);
                settings.checks.iter().filter(of_tool).for_each(|check| match check {
                    Check::Typed { .. } => types += 1,
                    Check::Rule { .. } => rules += 1,
                });
                let mut description =
                    description.with_setting_for(&tool.name, "max_bytes", bytes(plan.limits.max_bytes));
                if types > 0 {
                    description = description.with_setting_for(&tool.name, "parsed as", counted(types, "type"));
                }
                if rules > 0 {
                    description = description
                        .with_setting_for(&tool.name, "checked by", counted(rules, "rule"))
                        .with_rules_for(&tool.name);
                }
                description
            }
            None => description,
        })
    }
}

fn counted(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}
