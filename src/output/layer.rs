//! What the layer does with a call.

use std::future::{Future, ready};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{ResourceResult, ServerCapabilities, Tool, ToolResult};

use super::LAYER;
use super::answer::Answered;
use super::builder::OutputTool;
use super::cut::RESERVED;
use super::plan::{Redacted, ToolPlan};
use super::resource::{id_in, read};
use super::size::json_bytes;
use super::store::{Owner, Store};
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::outcome::{self, OUTPUT};
use crate::selection::{Known, Plan, Rule, Unknown, check_names, look_up, plan_methods};
use crate::{ConfigError, Middleware};

/// A bound never makes an error of a call that has taken effect, so every tool is safe.
const RULE: Rule = Rule::every_tool(LAYER);

/// The fewest bytes that remain for the beginning of an answer.
const LEAST: usize = 256;

impl OutputTool {
    pub(super) fn selects(&self, tool: &Tool) -> bool {
        self.selection.includes(tool, RULE)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(|| ToolPlan::new(tool, &self.settings))
    }

    fn decide_unlisted(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(ToolPlan::of_unlisted)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let settings = &self.settings;
        let invalid = |setting, reason: String| Err(ConfigError::invalid(LAYER, setting, reason));
        if let Some((tool, _)) = settings.hints.iter().find(|(_, hint)| hint.trim().is_empty()) {
            return invalid(
                "with_hint",
                format!("the hint for `{tool}` is empty: say how to ask for less, or remove it"),
            );
        }
        let hint = settings.hints.values().map(json_bytes).max().unwrap_or_default();
        let least = RESERVED + LEAST + hint;
        if settings.bounds.bytes < least {
            let reason = format!("must be at least {least}: the sentence about what is left out needs most of them");
            return invalid("with_max_bytes", reason);
        }
        let own = 2 + usize::from(settings.spill.is_some());
        if settings.bounds.items.is_some_and(|items| items < own) {
            let reason = format!("must be at least {own}: one block of the answer, and what says where the rest is");
            return invalid("with_max_items", reason);
        }
        if let Some(spill) = settings.spill {
            spill.check(settings.bounds.bytes)?;
        }
        if !settings.unredacted.is_empty() && settings.redaction.is_none() {
            let reason = "no redaction is set, so nothing is redacted: set `with_redaction`, or remove this setting";
            return invalid("without_redaction_of_structure", reason.to_owned());
        }
        settings.identity.check(LAYER)
    }

    /// Checks the settings that name tools, and the tools that cannot be redacted.
    fn check_tools(&self, tools: &[Tool]) -> Result<(), ConfigError> {
        self.selection.check(tools, RULE)?;
        check_names(LAYER, self.settings.named().map(|(_, tool)| tool), tools)?;
        for (setting, name) in self.settings.named() {
            if tools.iter().any(|tool| tool.name == name && !self.selects(tool)) {
                let reason = format!("`{name}` is named here and left out: remove one of the two");
                return Err(ConfigError::invalid(LAYER, setting, reason));
            }
        }
        for tool in tools.iter().filter(|tool| self.selects(tool)) {
            if let Redacted::Impossible(keyword) = ToolPlan::new(tool, &self.settings).redaction {
                let name = &tool.name;
                let reason = format!(
                    "the output schema of `{name}` constrains strings (`{keyword}`), so a redacted answer could break it: \
                     name the tool in `without_redaction_of_structure` if its structured content has nothing to hide, or \
                     leave it out with `except`"
                );
                return Err(ConfigError::invalid(LAYER, "with_redaction", reason));
            }
        }
        Ok(())
    }

    async fn call<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        if let Redacted::Impossible(_) = plan.redaction {
            tracing::warn!(
                tool = name,
                "a call was refused: its answer cannot be redacted without breaking its schema"
            );
            let error = McpError::configuration(format!("`{name}` cannot be called on this server. Nothing was done"));
            return Ok(outcome::marked(OUTPUT, "not_redactable", error).to_tool_result());
        }
        let answer = inner.call_tool(name, args, ctx).await;
        Answered { layer: self, plan: &plan, tool: name, ctx }.bounded(answer)
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        let decide = |tool: &Tool| self.decide_unlisted(tool);
        let plan = match self.settings.redaction {
            None => looked_up.or_by_name(name, decide),
            // It may have a schema that a redacted answer would break.
            Some(_) => match looked_up.or_refuse(name, true, decide) {
                Ok(plan) => plan,
                Err(error) => return Ok(error.to_tool_result()),
            },
        };
        match plan {
            Some(plan) => Box::pin(self.call(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    /// Returns a kept answer, if the URI is that of one and the caller may read it.
    fn kept(&self, uri: &str, ctx: &RequestContext) -> Option<ResourceResult> {
        let (store, id) = (self.store.as_ref()?, id_in(uri)?);
        let contents = store.read(id, &Owner::of(&self.settings.identity, ctx)?.partition)?;
        self.handled.read.add();
        read(id, &contents)
    }
}

impl Middleware for OutputTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.check()?;
        let tools = list_for_bind(inner);
        self.check_tools(&tools)?;
        let named = self.settings.named().map(|(_, tool)| tool);
        let plan = Plan::new(&self.settings.identity, self.selection.named().chain(named), Unknown::Counts);
        let store = self.settings.spill.map(Store::new).transpose().map_err(|error| {
            ConfigError::invalid(
                LAYER,
                "with_spill",
                format!("the system has no random numbers for the links: {error}"),
            )
        })?;
        let bound = Self { plan, store, ..self };
        bound.observe_tools(&tools, None);
        bound.handled.bound.store(Some(Arc::new((bound.plan.clone(), bound.store.clone()))));
        Ok(bound)
    }

    plan_methods!();

    fn acts_on(&self, target: Target<'_>) -> bool {
        match target {
            Target::Tool(tool) => self.plan.may_act_on(tool),
            Target::Resource(uri) => self.store.is_some() && id_in(uri).is_some(),
            _ => false,
        }
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
            Known::Decided(Some(plan)) => Either::Right(self.call(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }

    fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ResourceResult>> + Send + 'a {
        match self.kept(uri, ctx) {
            Some(answer) => Either::Left(ready(Ok(answer))),
            // An answer of another caller is an unknown resource of the server.
            None => Either::Right(inner.read_resource(uri, ctx)),
        }
    }

    fn server_capabilities<H: McpHandler>(&self, inner: &H) -> ServerCapabilities {
        let mut capabilities = inner.server_capabilities();
        if self.store.is_some() {
            capabilities.resources.get_or_insert_default();
        }
        capabilities
    }
}

impl_layer!(OutputTool);
