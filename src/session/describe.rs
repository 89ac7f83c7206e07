//! What the layer says of itself.

use turbomcp_types::Tool;

use super::handle;
use super::settings::LAYER;
use super::store::SessionStore;
use crate::explain::{Description, Role, bytes, time, time_or_none};

impl SessionStore {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let settings = &self.engine.settings;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let description = Description::of_layer(LAYER, Role::Session, idle)
            .with_setting("mode", format!("{:?}", settings.mode))
            .with_setting("calls without a session", if settings.is_optional { "pass" } else { "are refused" })
            .with_setting("idle_timeout", time(settings.idle_timeout))
            .with_setting("absolute_timeout", time_or_none(settings.absolute_timeout))
            .with_setting("max_bytes", bytes(settings.max_bytes))
            .with_setting("backend", self.engine.shared.records.backend().name());
        let is_managed = |tool: &Tool| self.has_handles() && handle::is_own(&tool.name);
        let acted_on = tools.iter().filter(|tool| is_managed(tool) || self.decide(tool).is_some());
        description.with_tools(acted_on.map(|tool| &tool.name))
    }
}
