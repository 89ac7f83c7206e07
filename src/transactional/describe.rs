//! What the layer says of itself.

use sqlx::Database;
use turbomcp_types::Tool;

use super::builder::TransactionalTool;
use super::dialect::Dialect;
use super::layer::LAYER;
use crate::explain::{Description, Role, time, time_or_none};

impl<DB: Dialect> TransactionalTool<DB> {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let begin = &self.transactor.begin;
        let idle = self.selection.why_idle("no tool is listed", "remove tools from `except`");
        let mut description = Description::of_layer(LAYER, Role::Transaction, idle)
            .with_setting("database", <DB as Database>::NAME)
            .with_setting("propagation", format!("{:?}", self.transactor.propagation))
            .with_setting("attempts", self.transactor.policy.max_attempts())
            .with_setting("timeout", time_or_none(begin.timeout));
        if let Some(isolation) = begin.isolation {
            description = description.with_setting("isolation", format!("{isolation:?}"));
        }
        if let Some(idempotency) = &self.idempotency {
            description = description.with_setting("ttl of keys", time(idempotency.ttl()));
        }
        tools.iter().fold(description, |description, tool| {
            let Some(plan) = self.decide(tool) else { return description };
            let description = match plan.read_only || begin.read_only {
                true => description.with_setting_for(&tool.name, "transaction", "read-only"),
                false => description.with_tools([&tool.name]),
            };
            match self.idempotency.as_ref().filter(|_| plan.keys.is_some()) {
                Some(idempotency) => description
                    .with_setting_for(&tool.name, "key", idempotency.key_in_words(&tool.name))
                    .with_roles_for(&tool.name, [Role::Transaction, Role::Idempotency]),
                None => description,
            }
        })
    }
}
