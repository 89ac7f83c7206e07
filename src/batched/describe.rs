//! What the layer says of itself.

use turbomcp_types::Tool;

use super::builder::BatchedTool;
use super::layer::LAYER;
use crate::explain::{Description, Role, time, time_or_none};

impl BatchedTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let batches = self.calls.settings();
        let idle = self.selection.why_idle(
            "none of the tools that the settings name is listed",
            "name other tools with `only` or `with_bulk`",
        );
        let description = Description::of_layer(LAYER, Role::Batch, idle)
            .with_setting("max_size", batches.max_size)
            .with_setting("max_in_flight", batches.max_in_flight)
            .with_setting("max_delay", time(batches.max_delay))
            .with_setting("max_queue", batches.max_queue)
            .with_setting("batch_timeout", time_or_none(batches.batch_timeout));
        let description = tools.iter().fold(description, |description, tool| match self.decide(tool) {
            Some(plan) => description
                .with_setting_for(
                    &tool.name,
                    "calls",
                    if plan.bulk.is_some() { "by a bulk function" } else { "equal ones" },
                )
                .with_setting_for(&tool.name, "scope", format!("{:?}", plan.scope)),
            None => description,
        });
        let settings = &self.settings;
        let fix = |_: &Tool| "select the tool with `only` or `with_bulk`, or remove this setting";
        description.checking("with_scope_for", settings.scopes.keys().map(String::as_str), tools, fix).checking(
            "allow_repeated_effects",
            settings.repeatable.iter().map(String::as_str),
            tools,
            fix,
        )
    }
}
