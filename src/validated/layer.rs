//! Which tools the layer acts on, and which definition of a tool applies.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::LAYER;
use super::builder::ValidatedTool;
use super::plan::ToolPlan;
use super::settings::Check;
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::selection::{self, Known, Plan, Unknown, look_up, look_up_own, plan_methods};
use crate::{ConfigError, Middleware};

/// Validation changes no valid call, so every tool is safe.
const RULE: selection::Rule = selection::Rule::every_tool(LAYER);

impl ValidatedTool {
    #[cfg(test)]
    pub(super) fn plan_of(&self, tool: &str) -> Option<Arc<ToolPlan>> {
        self.plan.of_anybody(tool)
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let is_allowed = self.settings.allows_unlisted || self.names(name);
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        match looked_up.or_refuse(name, is_allowed, |tool| self.decide(tool))? {
            Some(plan) => Box::pin(self.validate(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    /// Returns whether a setting names the tool.
    fn names(&self, tool: &str) -> bool {
        let settings = &self.settings;
        self.selection.names(tool)
            || settings.limits_for.contains_key(tool)
            || settings.names.contains_key(tool)
            || settings.checks.iter().any(|check| check.tool() == tool)
    }

    /// Returns the plan of the caller's own definition of the tool, if it is another one than that of `plan`.
    pub(super) async fn own_plan<H: McpHandler>(
        &self,
        plan: &ToolPlan,
        inner: &H,
        ctx: &RequestContext,
    ) -> Option<Arc<ToolPlan>> {
        let own = look_up_own(&self.plan, self, inner, plan.tool(), ctx).await;
        own.filter(|own| own.is_usable() && **own != *plan)
    }

    /// Returns the plan of the tool, which is made again if the tool has changed.
    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        if !self.selection.includes(tool, RULE) {
            return None;
        }
        // A schema takes milliseconds to compile, and each listing passes here.
        if let Some(plan) = self.plan.find(&tool.name, |plan| plan.is_of(tool)) {
            return Some(plan);
        }
        Some(Arc::new(ToolPlan::new(tool, &self.settings).unwrap_or_else(|mistake| {
            tracing::warn!(%mistake, tool = tool.name, "a tool that was added after the start cannot be validated");
            ToolPlan::unusable(tool)
        })))
    }
}

impl Middleware for ValidatedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        let settings = &self.settings;
        settings.limits.check_settings_of("with_limits")?;
        settings.limits_for.values().try_for_each(|limits| limits.check_settings_of("with_limits_for"))?;
        if settings.max_violations == 0 {
            return Err(ConfigError::invalid(LAYER, "with_max_violations", "must be greater than zero"));
        }
        settings.identity.check(LAYER)?;
        settings.formats.check().map_err(|reason| ConfigError::invalid(LAYER, "with_formats", reason))?;
        let tools = list_for_bind(inner);
        let named = settings.checks.iter().map(Check::tool).chain(settings.limits_for.keys().map(String::as_str));
        let named: Vec<_> = named.chain(settings.names.keys().map(String::as_str)).collect();
        let all_named = named.iter().copied().chain(self.selection.named());
        if !settings.allows_unlisted {
            selection::check_names(LAYER, all_named.clone(), &tools)?;
        }
        let plan = Plan::new(&settings.identity, all_named, Unknown::Counts);
        let (validated, left_out): (Vec<_>, Vec<_>) =
            tools.iter().partition(|tool| self.selection.includes(tool, RULE));
        if let Some(tool) = left_out.iter().find(|tool| named.contains(&tool.name.as_str())) {
            let reason = format!("`{}` has settings of its own and is excluded: remove one of the two", tool.name);
            return Err(ConfigError::invalid(LAYER, "except", reason));
        }
        let mut plans = BTreeMap::new();
        for tool in validated {
            plans.insert(tool.name.as_str(), Arc::new(ToolPlan::new(tool, settings)?));
        }
        plan.learn(&tools, None, |tool| plans.get(tool.name.as_str()).cloned());
        Ok(Self { plan, ..self })
    }

    plan_methods!();

    fn acts_on(&self, target: Target<'_>) -> bool {
        matches!(target, Target::Tool(tool) if self.plan.may_act_on(tool))
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        match self.plan.get(name, ctx) {
            Known::Decided(None) => Either::Left(inner.call_tool(name, args, ctx)),
            // On the heap, so that the future of a call that the layer does not act on stays small.
            Known::Decided(Some(plan)) => Either::Right(self.validate(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(ValidatedTool);
