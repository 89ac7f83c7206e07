//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::{Value, json};
use tokio::time::Instant;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::LAYER;
use super::breakers::{Breakers, Groups, NOT_LISTED};
use super::builder::BreakerTool;
use super::plan::ToolPlan;
use super::refusal::refused;
use super::result::Ended;
use crate::circuit::{Change, Failed, Permit, State};
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::outcome::{self, BREAKER};
use crate::questions::Questions;
use crate::selection::{Known, Plan, Rule, Unknown, check_names, look_up, plan_methods};
use crate::{ConfigError, Middleware};

/// A breaker refuses a call before it begins, so every tool is safe.
const RULE: Rule = Rule::every_tool(LAYER);

impl BreakerTool {
    pub(super) fn selects(&self, tool: &Tool) -> bool {
        self.selection.includes(tool, RULE)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(|| ToolPlan::new(&tool.name, self.breakers.of(&tool.name)))
    }

    fn decide_unlisted(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(|| ToolPlan::new(NOT_LISTED, self.breakers.of(NOT_LISTED)))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let settings = &self.settings;
        settings.rules.check(LAYER)?;
        if let Some(after) = settings.slow_after {
            ConfigError::check_timeout(LAYER, "with_slow_calls", after)?;
        }
        settings.identity.check(LAYER)
    }

    /// Checks the groups, and returns the group of each tool.
    fn groups(&self, tools: &[Tool]) -> Result<Groups, ConfigError> {
        let mut groups = Groups::new();
        let invalid = |reason| Err(ConfigError::invalid(LAYER, "with_group", reason));
        for (name, members) in &self.settings.groups {
            check_names(LAYER, members.iter().map(String::as_str), tools)?;
            if name.is_empty() {
                return invalid("the name is empty: name the group after what is behind its tools".to_owned());
            }
            if members.is_empty() {
                return invalid(format!("the group `{name}` has no tools: name them, or remove it"));
            }
            if tools.iter().any(|tool| tool.name == *name) {
                return invalid(format!("there is a tool `{name}`, whose breaker has this name: rename the group"));
            }
            for tool in tools.iter().filter(|tool| members.contains(&tool.name)) {
                if !self.selects(tool) {
                    return invalid(format!("`{}` is in a group and is left out: remove one of the two", tool.name));
                }
                let before = groups.insert(tool.name.clone(), name.clone());
                if let Some(other) = before.filter(|before| before != name) {
                    return invalid(format!(
                        "`{}` is in the groups `{other}` and `{name}`: remove it from one",
                        tool.name
                    ));
                }
            }
        }
        Ok(groups)
    }

    async fn guard<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let (permit, change) = match plan.breaker.circuit.admit(self.settings.identity.principal_of(ctx)) {
            Ok(admitted) => admitted,
            Err(why) => {
                self.handled.refused.add();
                plan.refusals.increment();
                tracing::debug!(tool = name, state = why.state.as_str(), "a call was refused by its breaker");
                return refused(name, why);
            }
        };
        if let Some(change) = change {
            plan.breaker.report(change);
        }
        self.handled.admitted.add();
        let questions = Questions::of(ctx);
        let questions = questions.as_deref();
        let running = Running { layer: self, plan: &plan, permit: Some(permit), began: Instant::now(), questions, ctx };
        let mut result = inner.call_tool(name, args, questions.map_or(ctx, Questions::ctx)).await;
        running.end(&mut result);
        result
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let looked_up = look_up(&self.plan, self, inner, name, ctx).await;
        match looked_up.or_by_name(name, |tool| self.decide_unlisted(tool)) {
            Some(plan) => Box::pin(self.guard(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }
}

/// A call that was let through. If it is dropped before it has ended, its caller has left.
struct Running<'a> {
    layer: &'a BreakerTool,
    plan: &'a ToolPlan,
    permit: Option<Permit<'a>>,
    began: Instant,
    questions: Option<&'a Questions>,
    ctx: &'a RequestContext,
}

impl Running<'_> {
    fn end(mut self, result: &mut McpResult<ToolResult>) {
        let Some(permit) = self.permit.take() else { return };
        let is_probe = permit.is_probe();
        let ended = Ended::new(outcome::failure(result), self.began.elapsed(), self.questions, self.ctx);
        let change = self.settle(permit, ended.says(&self.layer.settings));
        let state =
            change.map(|change| (change.to, Some(change.reason))).or(is_probe.then_some((State::HalfOpen, None)));
        if let Some((state, reason)) = state.filter(|_| self.layer.settings.emits_meta) {
            let meta = match reason {
                Some(reason) => json!({ "state": state.as_str(), "reason": reason.as_str() }),
                None => json!({ "state": state.as_str() }),
            };
            outcome::note(result, BREAKER, meta);
        }
    }

    /// Tells the breaker what a call says, and reports the change that this makes.
    fn settle(&self, permit: Permit<'_>, says: Option<Result<(), Failed>>) -> Option<Change> {
        let change = match says {
            // The drop of the permit gives its place back.
            None => None,
            Some(Ok(())) => permit.succeeded(),
            Some(Err(how)) => {
                match how {
                    Failed::Failure => self.layer.handled.failed.add(),
                    Failed::Slow => self.layer.handled.slow.add(),
                }
                permit.failed(how)
            }
        };
        change.inspect(|change| self.plan.breaker.report(*change))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let left = Ended::new(None, self.began.elapsed(), self.questions, self.ctx);
        let is_slow = left.is_slow(&self.layer.settings);
        self.settle(permit, is_slow.then_some(Err(Failed::Slow)));
    }
}

impl Middleware for BreakerTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.check()?;
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        let groups = self.groups(&tools)?;
        let named = self.selection.named().chain(groups.keys().map(String::as_str));
        let plan = Plan::new(&self.settings.identity, named, Unknown::Counts);
        let bound = Self { plan, breakers: Breakers::new(self.settings.rules, groups), ..self };
        bound.observe_tools(&tools, None);
        bound.handled.bound.store(Some(Arc::new((bound.plan.clone(), bound.breakers.clone()))));
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
        match self.plan.get(name, ctx) {
            Known::Decided(None) => Either::Left(inner.call_tool(name, args, ctx)),
            // On the heap, so that the future of a call that the layer does not act on stays small.
            Known::Decided(Some(plan)) => Either::Right(self.guard(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(BreakerTool);
