//! What the layer says of itself.

use turbomcp_types::Tool;

use super::LAYER;
use super::builder::AuditTool;
use super::principal::Principals;
use crate::explain::{Description, Role};

impl AuditTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let settings = &self.settings;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let principals = match settings.principals {
            Principals::Named => "by name",
            Principals::Hashed(_) => "hashed",
        };
        let mut description = Description::of_layer(LAYER, Role::Audit, idle)
            .with_setting("sinks", settings.outputs.names().join(", "))
            .with_setting("principals", principals);
        if settings.redaction.is_some() {
            description = description.with_setting("arguments", "redacted");
        }
        tools.iter().filter(|tool| self.selects(tool)).fold(description, |description, tool| {
            match settings.arguments.get(&tool.name) {
                Some(pointers) => description.with_setting_for(&tool.name, "arguments", pointers.join(", ")),
                None => description.with_tools([&tool.name]),
            }
        })
    }
}
