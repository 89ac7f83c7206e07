//! What the layer says of itself.

use turbomcp_types::Tool;

use super::builder::IdempotentTool;
use super::layer::LAYER;
use crate::explain::{Description, Role, time};

impl IdempotentTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let terms = &self.claims.terms;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let description = Description::of_layer(LAYER, Role::Idempotency, idle)
            .with_setting("backend", self.backend_name())
            .with_setting("ttl", time(self.idempotency().ttl()))
            .with_setting("wait", time(self.claims.wait))
            .with_setting("lease", time(terms.lease))
            .with_setting("when_ambiguous", if terms.takes_over { "runs again" } else { "refused" });
        let keyed = tools.iter().filter(|tool| self.decide(tool).is_some());
        keyed.fold(description, |description, tool| {
            description.with_setting_for(&tool.name, "key", self.idempotency().key_in_words(&tool.name))
        })
    }
}
