//! What the layer says of itself.

use turbomcp_types::Tool;

use super::Budget;
use super::builder::RetryTool;
use super::layer::{LAYER, RULE};
use crate::explain::{Description, Role, time_or_none};

impl RetryTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let policy = &self.policy;
        let idle = self.selection.why_idle(
            "no tool is annotated `read_only = true` or `idempotent = true`, and none takes an idempotency key from a layer \
             further in",
            "annotate the tools that may be called twice, name tools in `allow_repeated_effects`, or put the layer outside of \
             the one with the keys",
        );
        let description = Description::of_layer(LAYER, Role::Retry, idle)
            .with_setting("delays", policy.delays_in_words())
            .with_setting("deadline", time_or_none(policy.deadline))
            .with_setting("attempt_timeout", time_or_none(policy.attempt_timeout))
            .with_setting("budget", policy.budget.as_ref().map_or_else(|| "none".to_owned(), Budget::in_words));
        let description = tools.iter().fold(description, |description, tool| match self.decide(tool) {
            Some(plan) => {
                let description = description.with_setting_for(&tool.name, "attempts", policy.max_attempts);
                match plan.key {
                    Some(_) => description.with_setting_for(&tool.name, "only", "with a key"),
                    None => description,
                }
            }
            None if self.selection.is_unsafe(tool, RULE) => description.leaving_out(&tool.name),
            None => description,
        });
        let fix = |tool: &Tool| match self.selection.is_unsafe(tool, RULE) {
            true => {
                "annotate the tool `read_only = true` or `idempotent = true` if it may be called twice, name it in \
                 `allow_repeated_effects`, or remove this setting"
            }
            false => "change the selectors, or remove this setting",
        };
        let questions = self.repeats_questions.iter().map(String::as_str);
        description.checking("allow_repeated_questions", questions, tools, fix)
    }
}
