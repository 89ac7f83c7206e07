//! What the layer says of itself.

use turbomcp_types::Tool;

use super::LAYER;
use super::builder::OutputTool;
use super::plan::ToolPlan;
use super::spill::Spill;
use crate::explain::{Description, Role, bytes};

impl OutputTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let settings = &self.settings;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let mut description = Description::of_layer(LAYER, Role::Output, idle)
            .with_setting("bytes", bytes(settings.bounds.bytes))
            .with_setting("items", settings.bounds.items.map_or_else(|| "any".to_owned(), |items| items.to_string()))
            .with_setting("spill", settings.spill.map_or_else(|| "none".to_owned(), Spill::in_words))
            .with_setting("redaction", if settings.redaction.is_some() { "on" } else { "off" });
        for tool in tools.iter().filter(|tool| self.selects(tool)) {
            let plan = ToolPlan::new(tool, settings);
            description = description.with_setting_for(&tool.name, "above the bounds", self.above_bounds(&plan));
            if let Some(hint) = &plan.hint {
                description = description.with_setting_for(&tool.name, "hint", hint);
            }
        }
        description
    }

    /// Says what becomes of the answers of a tool above the bounds.
    fn above_bounds(&self, plan: &ToolPlan) -> &'static str {
        match (self.settings.spill.is_some(), plan.may_be_cut, plan.keeps_structure, plan.is_read_only) {
            (true, _, false, _) => "kept",
            (true, _, true, true) => "kept, or an error",
            (true, _, true, false) => "kept, or whole",
            (false, true, false, _) => "cut",
            (false, true, true, true) => "cut, or an error",
            (false, true, true, false) => "cut, or whole",
            (false, false, _, _) => "whole",
        }
    }
}
