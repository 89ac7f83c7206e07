//! What the layer says of itself.

use turbomcp_types::Tool;

use super::LAYER;
use super::builder::BreakerTool;
use crate::explain::{Description, Role, time, time_or_none};

impl BreakerTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let (settings, rules) = (&self.settings, &self.settings.rules);
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let description = Description::of_layer(LAYER, Role::Breaker, idle)
            .with_setting("window", rules.window.in_words())
            .with_setting("opens at", format!("{} of at least {} calls", rules.failure_rate, rules.min_calls))
            .with_setting("slow after", time_or_none(settings.slow_after))
            .with_setting("pause", time(rules.pause))
            .with_setting("probes", rules.probes);
        tools.iter().filter(|tool| self.selects(tool)).fold(description, |description, tool| {
            match self.breakers.group_of(&tool.name) {
                Some(group) => description.with_setting_for(&tool.name, "group", group),
                None => description.with_tools([&tool.name]),
            }
        })
    }
}
