//! What the layer says of itself.

use turbomcp_types::Tool;

use super::LAYER;
use super::builder::{Cost, LimitedTool};
use super::limit::Per;
use crate::explain::{Description, Role, time_or_none};

impl LimitedTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let settings = &self.settings;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let mut description =
            Description::of_layer(LAYER, Role::Limit, idle).with_setting("timeout", time_or_none(settings.timeout));
        if let Some(replicas) = settings.replicas {
            description = description.with_setting("replicas", replicas);
        }
        #[cfg(feature = "redis")]
        if settings.backend.is_some() {
            description = description.with_setting("backend", "Redis");
        }
        for (per, limit) in settings.limits() {
            if let Some(rate) = limit.rate {
                description = description.with_setting(format!("rate per {}", in_words(per)), rate.in_words());
            }
            if let Some(concurrency) = limit.concurrency {
                description =
                    description.with_setting(format!("concurrency per {}", in_words(per)), concurrency.in_words());
            }
        }
        tools.iter().filter(|tool| self.selects(tool)).fold(description, |description, tool| {
            match settings.costs.get(&tool.name) {
                Some(Cost::Fixed(calls)) => description.with_setting_for(&tool.name, "cost", calls),
                Some(Cost::Of(_)) => description.with_setting_for(&tool.name, "cost", "by its arguments"),
                None => description.with_tools([&tool.name]),
            }
        })
    }
}

fn in_words(per: Per) -> &'static str {
    match per {
        Per::Tool => "tool",
        Per::Principal => "principal",
        Per::PrincipalAndTool => "principal and tool",
    }
}
