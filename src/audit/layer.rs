//! What the layer does with a call.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::LAYER;
use super::arguments::{argument_of, mistake};
use super::builder::AuditTool;
use super::plan::ToolPlan;
use super::principal::{MIN_KEY, Principals};
use super::recording::Recording;
use crate::arguments::LayerArguments;
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::selection::{Known, Plan, Rule, Unknown, bare, check_names, look_up, plan_methods};
use crate::{ConfigError, Middleware};

/// To record a call changes nothing, so every tool is safe.
const RULE: Rule = Rule::every_tool(LAYER);

impl AuditTool {
    pub(super) fn selects(&self, tool: &Tool) -> bool {
        self.selection.includes(tool, RULE)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(|| ToolPlan::new(&self.settings, tool))
    }

    /// Nothing is recorded of the arguments of a tool that is in no listing: it is not known which of them are those of layers.
    fn decide_unlisted(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(Arc::default)
    }

    /// Says whether the layer has to know more of a tool than its name.
    fn needs_definition(&self) -> bool {
        self.selection.asks_for_more_than_names() || self.settings.redaction.is_some()
    }

    fn check(&self, tools: &[Tool]) -> Result<(), ConfigError> {
        let settings = &self.settings;
        let invalid = |setting, reason: String| Err(ConfigError::invalid(LAYER, setting, reason));
        settings.outputs.check()?;
        ConfigError::check_positive(LAYER, "with_max_argument_bytes", settings.max_argument_bytes)?;
        if let Principals::Hashed(key) = &settings.principals
            && key.len() < MIN_KEY
        {
            let reason = format!("the key has {} bytes: set a random one of at least {MIN_KEY}", key.len());
            return invalid("with_hashed_principals", reason);
        }
        if settings.redaction.is_some() && !settings.arguments.is_empty() {
            let reason = "`with_redaction` decides for every tool: remove one of the two";
            return invalid("with_arguments", reason.to_owned());
        }
        for (tool, pointers) in &settings.arguments {
            let mistaken = pointers.iter().find_map(|pointer| Some((pointer, mistake(pointer)?)));
            if let Some((pointer, mistake)) = mistaken {
                return invalid("with_arguments", format!("`{pointer}` of `{tool}` {mistake}"));
            }
        }
        for tool in tools {
            let Some(pointers) = settings.arguments.get(&tool.name) else { continue };
            if !self.selects(tool) {
                let reason = format!("`{}` has arguments to record and is left out: remove one of the two", tool.name);
                return invalid("with_arguments", reason);
            }
            let of_layers = LayerArguments::of(tool);
            if let Some(pointer) = pointers.iter().find(|pointer| of_layers.has(&argument_of(pointer))) {
                let reason = format!(
                    "`{pointer}` of `{}` is an argument that a layer adds, and a secret of its caller: remove it",
                    tool.name
                );
                return invalid("with_arguments", reason);
            }
        }
        settings.identity.check(LAYER)
    }

    /// Makes the call, and records its end. `begun` is a recording that began before the tool was known.
    async fn audit<'a, H: McpHandler>(
        &'a self,
        begun: Option<Recording<'a>>,
        plan: Arc<ToolPlan>,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let mut recording = begun.unwrap_or_else(|| Recording::begin(self, name, &args, ctx));
        let call = async {
            recording.take_arguments(&plan, &args);
            inner.call_tool(name, args, ctx).await
        };
        match AssertUnwindSafe(call).catch_unwind().await {
            Ok(result) => {
                recording.end(&result).await;
                result
            }
            Err(panic) => {
                recording.panicked();
                resume_unwind(panic)
            }
        }
    }

    async fn audit_unknown<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        // The caller may leave during the look-up.
        let recording = Recording::begin(self, name, &args, ctx);
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        match looked_up.or_by_name(name, |tool| self.decide_unlisted(tool)) {
            Some(plan) => Box::pin(self.audit(Some(recording), plan, inner, name, args, ctx)).await,
            None => {
                recording.discard();
                Box::pin(inner.call_tool(name, args, ctx)).await
            }
        }
    }
}

impl Middleware for AuditTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        let recorded = self.settings.arguments.keys().map(String::as_str);
        check_names(LAYER, recorded.clone(), &tools)?;
        self.check(&tools)?;
        let plan = Plan::new(&self.settings.identity, self.selection.named().chain(recorded), Unknown::Counts);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
        bound.handled.bound.store(Some(Arc::new((bound.plan.clone(), Arc::clone(&bound.settings)))));
        Ok(bound)
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
        let decided = match self.plan.get(name, ctx) {
            Known::Decided(decision) => decision,
            Known::Unknown if self.needs_definition() && !self.selection.leaves_out(name) => {
                return Either::Right(self.audit_unknown(inner, name, args, ctx).boxed());
            }
            Known::Unknown => self.decide_unlisted(&bare(name)),
        };
        match decided {
            // On the heap, so that the future of a call that the layer does not act on stays small.
            Some(plan) => Either::Right(self.audit(None, plan, inner, name, args, ctx).boxed()),
            None => Either::Left(inner.call_tool(name, args, ctx)),
        }
    }

    async fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        self.handled.panicked.announce();
        for buffer in self.settings.outputs.buffers() {
            buffer.check_storage().await?;
        }
        inner.on_initialize().await
    }

    /// Stops the inner server, and then waits for the events of its last calls.
    async fn on_shutdown<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        let stopped = inner.on_shutdown().await;
        self.settings.outputs.shut_down().await;
        stopped
    }
}

impl_layer!(AuditTool);
