//! What the layer says of itself.

use turbomcp_types::Tool;

use super::plan::{Reads, Role};
use super::settings::LAYER;
use super::{CachedTool, RULE};
use crate::explain::{self, Description, bytes, time};

impl CachedTool {
    /// Describes the layer for a listing of these tools.
    pub(super) fn description(&self, tools: &[Tool]) -> Description {
        let (cache, settings) = (self.results.settings(), &self.settings);
        let idle = self.selection.why_idle(
            "no tool is annotated `read_only = true`",
            "annotate the tools that only read, name tools in `allow_skipped_effects`, or cache resources and prompts by \
             `with_resources` and `with_prompts`",
        );
        let mut description = Description::of_layer(LAYER, explain::Role::Cache, idle)
            .with_setting("max_entries", cache.bounds.max_entries);
        if let Some((max_bytes, _)) = cache.bounds.bytes {
            description = description.with_setting("max_bytes", bytes(max_bytes));
        }
        if !cache.freshness.while_revalidate.is_zero() {
            let stale = time(cache.freshness.while_revalidate);
            description = description.with_setting("stale_while_revalidate", stale);
        }
        if !cache.freshness.if_error.is_zero() {
            description = description.with_setting("stale_if_error", time(cache.freshness.if_error));
        }
        if let Some(negative) = &cache.negative {
            description = description.with_setting("negative_ttl", time(negative.ttl));
        }
        if let Some(level) = &cache.level {
            description = description.with_setting("second_level", level.level.describe());
            description = description.with_setting("first_level_ttl", time(cache.first_level_ttl));
        }
        if let Some(namespace) = &settings.namespace {
            description = description.with_setting("namespace", namespace);
        }
        for (reads, name) in [(&settings.resources, "resources"), (&settings.prompts, "prompts")] {
            let Some((ttl, scope)) = reads.as_ref().map(|reads| reads.effective(cache.freshness.ttl, settings.scope))
            else {
                continue;
            };
            description = match name {
                "resources" => description.with_resources(),
                _ => description.with_prompts(),
            };
            description = description
                .with_setting(format!("ttl of {name}"), time(ttl))
                .with_setting(format!("scope of {name}"), format!("{scope:?}"));
            if reads.as_ref().is_some_and(Reads::has_hints) {
                description = description.with_setting(format!("cache hints of {name}"), "for clients");
            }
        }
        let description = tools.iter().fold(description, |description, tool| match self.decide(tool) {
            Some(Role::Cached(plan)) => description
                .with_setting_for(&tool.name, "ttl", time(plan.ttl))
                .with_setting_for(&tool.name, "scope", format!("{:?}", plan.scope)),
            // It keeps nothing of such a tool, so its place does not matter for it.
            Some(Role::Writes(writes, _)) => {
                let invalidates = match writes.tools.as_slice() {
                    [] => "by arguments".to_owned(),
                    tools => tools.join(" "),
                };
                description.with_setting_for(&tool.name, "invalidates", invalidates).with_roles_for(&tool.name, [])
            }
            None if self.selection.is_unsafe(tool, RULE) => description.leaving_out(&tool.name),
            None => description,
        });
        self.with_unused(description, tools)
    }

    /// Notes the settings that name tools of which nothing is kept.
    fn with_unused(&self, description: Description, tools: &[Tool]) -> Description {
        let settings = &self.settings;
        let fix = |tool: &Tool| match self.selection.is_unsafe(tool, RULE) {
            true => {
                "annotate the tool `read_only = true` if it only reads, name it in `allow_skipped_effects`, or remove this \
                 setting"
            }
            false => "change the selectors, or remove this setting",
        };
        let invalidated = settings.writes.values().flat_map(|writes| writes.tools.iter().map(String::as_str));
        description
            .checking("with_ttl_for", settings.ttls.keys().map(String::as_str), tools, fix)
            .checking("with_scope_for", settings.scopes.keys().map(String::as_str), tools, fix)
            .checking("tag", settings.tags.keys().map(String::as_str), tools, fix)
            .checking("invalidates", invalidated, tools, fix)
    }
}
