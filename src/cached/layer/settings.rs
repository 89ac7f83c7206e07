//! The settings of the layer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use turbomcp_types::Tool;

use super::key::{KeyPrefix, Kind};
use super::plan::{AnswerPlan, CacheSettings, KeysFn, ReadPlan, Reads, Writes};
use crate::arguments::LayerArguments;
use crate::cached::ZERO;
use crate::telemetry::Counter;
use crate::{ConfigError, Identity, Scope};

pub(in crate::cached) const LAYER: &str = "CachedTool";

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Debug, Clone)]
pub(in crate::cached) struct Settings {
    pub(in crate::cached) ttls: BTreeMap<String, Duration>,
    pub(in crate::cached) scope: Scope,
    pub(in crate::cached) identity: Identity,
    pub(in crate::cached) scopes: BTreeMap<String, Scope>,
    pub(in crate::cached) tags: BTreeMap<String, Vec<KeysFn>>,
    pub(in crate::cached) writes: BTreeMap<String, Arc<Writes>>,
    pub(in crate::cached) resources: Option<Reads>,
    pub(in crate::cached) prompts: Option<Reads>,
    pub(in crate::cached) namespace: Option<String>,
    pub(in crate::cached) version: String,
    pub(in crate::cached) emit_meta: bool,
    /// The name of the server that the layer is on.
    server: String,
    /// Created when the layer is put on a server.
    resource_plan: Option<ReadPlan>,
    prompt_plan: Option<ReadPlan>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttls: BTreeMap::new(),
            scope: Scope::default(),
            identity: Identity::new(),
            scopes: BTreeMap::new(),
            tags: BTreeMap::new(),
            writes: BTreeMap::new(),
            resources: None,
            prompts: None,
            namespace: None,
            version: String::new(),
            emit_meta: true,
            server: String::new(),
            resource_plan: None,
            prompt_plan: None,
        }
    }
}

impl Settings {
    pub(in crate::cached) fn check(&self) -> Result<(), ConfigError> {
        self.identity.check(LAYER)?;
        ConfigError::check_namespace(LAYER, self.namespace.as_deref())?;
        if self.ttls.values().any(Duration::is_zero) {
            return Err(ConfigError::invalid(LAYER, "with_ttl_for", ZERO));
        }
        for (reads, setting) in [(&self.resources, "with_resources"), (&self.prompts, "with_prompts")] {
            reads.as_ref().map_or(Ok(()), |reads| reads.check(LAYER, setting))?;
        }
        if self.prompts.as_ref().is_some_and(Reads::has_hints) {
            let reason = "the protocol has no cache hints for prompts: remove `with_cache_hints` from its `Reads`";
            return Err(ConfigError::invalid(LAYER, "with_prompts", reason));
        }
        if self.resources.is_none() && self.writes.values().any(|writes| writes.resources) {
            let reason = "has no effect without `with_resources`: call it, or remove this setting";
            return Err(ConfigError::invalid(LAYER, "invalidates_resources", reason));
        }
        Ok(())
    }

    /// Prepares the settings for the server of this name.
    pub(in crate::cached) fn bind(&mut self, server: String, cache: &CacheSettings) {
        self.server = server;
        let plan = |reads: &Option<Reads>, kind| {
            let plan = |reads: &Reads| reads.plan(kind, self.prefix(kind, None), cache, self.scope, &self.identity);
            reads.as_ref().map(plan)
        };
        let plans = (plan(&self.resources, Kind::Resource), plan(&self.prompts, Kind::Prompt));
        (self.resource_plan, self.prompt_plan) = plans;
    }

    /// The names of all tools that a setting names.
    pub(in crate::cached) fn named(&self) -> impl Iterator<Item = &str> {
        let written = self.writes.values().flat_map(|writes| &writes.tools);
        let named = self.ttls.keys().chain(self.scopes.keys()).chain(self.tags.keys());
        named.chain(self.writes.keys()).chain(written).map(String::as_str)
    }

    /// Whether resources or prompts are kept, so that notifications about them invalidate.
    pub(in crate::cached) fn observes(&self) -> bool {
        self.resources.is_some() || self.prompts.is_some()
    }

    /// The plan for a resource, or `None` if it is not kept.
    pub(in crate::cached) fn resource(&self, uri: &str) -> Option<&AnswerPlan> {
        self.resource_plan.as_ref()?.of(uri)
    }

    /// The plan for a prompt, or `None` if it is not kept.
    pub(in crate::cached) fn prompt(&self, name: &str) -> Option<&AnswerPlan> {
        self.prompt_plan.as_ref()?.of(name)
    }

    /// The plan for a tool whose results are kept, for `ttl` unless it has its own.
    pub(in crate::cached) fn tool(&self, tool: &Tool, ttl: Duration) -> AnswerPlan {
        let counter =
            |outcome| Counter::new("mcp_patterns_cache_requests_total", &[("tool", &tool.name), ("outcome", outcome)]);
        AnswerPlan {
            prefix: self.prefix(Kind::Tool, Some(&tool.name)),
            ttl: self.ttls.get(&tool.name).copied().unwrap_or(ttl),
            scope: self.scopes.get(&tool.name).copied().unwrap_or(self.scope),
            identity: self.identity.clone(),
            tags: self.tags.get(&tool.name).cloned().unwrap_or_default(),
            arguments: LayerArguments::of(tool),
            observes: self.observes(),
            hinted_ttl: None,
            hits: counter("hit"),
            misses: counter("miss"),
        }
    }

    fn prefix(&self, kind: Kind, name: Option<&str>) -> KeyPrefix {
        KeyPrefix::new(kind, name, self.namespace.as_deref().unwrap_or_default(), &self.server, &self.version)
    }
}
