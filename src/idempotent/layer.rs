//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::backend::BackendClaims;
use super::builder::IdempotentTool;
use super::keyed_call::make_once;
use crate::explain::list_for_bind;
use crate::idempotency_keys::{Bound, KeyCounts};
use crate::middleware::{Target, impl_layer};
use crate::selection::{Known, Plan, Rule, check_names, look_up, plan_methods};
use crate::{ConfigError, Middleware};

pub(super) const LAYER: &str = "IdempotentTool";

/// A key does no harm to any tool, so the layer acts on every tool that its user selects.
const RULE: Rule = Rule::every_tool(LAYER);

impl IdempotentTool {
    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let is_allowed = self.allows_unlisted || self.selection.names(name);
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        match looked_up.or_refuse(name, is_allowed, |tool| self.decide(tool))? {
            Some(plan) => Box::pin(make_once(self, plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<KeyCounts>> {
        let is_included = self.selection.includes(tool, RULE);
        is_included.then(|| self.idempotency().counts(LAYER, tool).map(Arc::new)).flatten()
    }

    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        for tool in tools.iter_mut().filter(|tool| self.selection.includes(tool, RULE)) {
            self.idempotency().advertise(tool);
        }
        tools
    }
}

impl Middleware for IdempotentTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        if !self.is_selected {
            let reason = "no tool takes a key yet: name them with `only`, or use `when` or `every_write`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        let terms = &self.claims.terms;
        ConfigError::check_timeout(LAYER, "with_lease", terms.lease)?;
        ConfigError::check_timeout(LAYER, "with_backend_timeout", terms.backend.timeout)?;
        terms.backend.get().check()?;
        self.space.check(LAYER)?;
        let tools = list_for_bind(inner);
        if !self.allows_unlisted {
            let named = self.selection.named().chain(self.idempotency().named());
            check_names(LAYER, named, &tools)?;
        }
        self.idempotency().check_for(LAYER, &tools, |tool| self.selection.includes(tool, RULE))?;
        let named = self.selection.named().chain(self.idempotency().named());
        let plan = Plan::new(&self.space.identity, named, self.selection.unknown());
        let mut bound = Self { plan, ..self };
        Arc::make_mut(&mut bound.space).server = inner.server_info().name;
        bound.observe_tools(&tools, None);
        let plan = bound.plan.clone();
        bound.handle.bind_tools({
            let plan = plan.clone();
            move || plan.tools()
        });
        bound.handle.bind(Bound {
            space: Arc::clone(&bound.space),
            idempotency: Arc::clone(bound.idempotency()),
            acts_on: Box::new(move |tool| plan.of_anybody(tool).is_some()),
            claims: Arc::new(BackendClaims(bound.claims.terms.backend.shared())),
            timeout: bound.claims.terms.backend.timeout,
        });
        Ok(bound)
    }

    plan_methods!();

    fn acts_on(&self, target: Target<'_>) -> bool {
        match target {
            Target::Tool(tool) => self.plan.may_act_on(tool),
            Target::ToolList => true,
            _ => false,
        }
    }

    async fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        self.claims.terms.backend.get().check_storage().await?;
        inner.on_initialize().await
    }

    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        self.advertise(inner.list_tools())
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        self.advertise(inner.list_tools_for(ctx))
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
            // On the heap, so that a call that the layer does not act on stays small.
            Known::Decided(Some(plan)) => Either::Right(make_once(self, plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(IdempotentTool);
