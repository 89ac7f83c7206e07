//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use tokio::time::timeout;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::LAYER;
use super::adaptive::Ended;
use super::builder::LimitedTool;
use super::concurrency::Concurrency;
use super::limits::Refused;
use super::plan::{Call, ToolPlan};
use super::rate::Rate;
use super::refusal;
use crate::explain::list_for_bind;
use crate::identity::share_of;
use crate::middleware::{Target, impl_layer};
use crate::questions::Questions;
use crate::selection::{Hints, Known, Plan, Rule, Unknown, check_names, look_up, plan_methods};
use crate::{ConfigError, Middleware};

/// A limit changes no call that it lets through, so every tool is safe.
const RULE: Rule = Rule::every_tool(LAYER);

/// The tools that are in no listing count as one: a client can make their names up.
const UNLISTED: &[u8] = &[0];

impl LimitedTool {
    pub(super) fn selects(&self, tool: &Tool) -> bool {
        self.selection.includes(tool, RULE)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        let number = share_of(tool.name.as_bytes());
        self.selects(tool).then(|| ToolPlan::new(&tool.name, number, Hints::of(tool).read_only))
    }

    fn decide_unlisted(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selects(tool).then(|| ToolPlan::new("(not listed)", share_of(UNLISTED), false))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let settings = &self.settings;
        let invalid = |setting, reason: &str| Err(ConfigError::invalid(LAYER, setting, reason));
        if settings.timeout.is_none() && settings.limits().all(|(_, limit)| limit == Default::default()) {
            return invalid("new", "it limits nothing: set `with_timeout`, `with_rate` or `with_concurrency`");
        }
        if let Some(timeout) = settings.timeout {
            ConfigError::check_timeout(LAYER, "with_timeout", timeout)?;
        }
        let replicas = settings.replicas.unwrap_or(1);
        ConfigError::check_positive(LAYER, "with_replicas", replicas)?;
        #[cfg(feature = "redis")]
        if let Some(backend) = &settings.backend {
            backend.check()?;
            if !settings.has_rate() {
                return invalid("with_backend", "it counts rates, and none is set: set `with_rate`, or no backend");
            }
            if settings.replicas.is_none() {
                let reason = "say how many processes share the rates, for the time when the backend does not answer: set `with_replicas`";
                return invalid("with_backend", reason);
            }
        }
        for (_, limit) in settings.limits() {
            if let Some(mistake) = limit.rate.and_then(Rate::mistake) {
                return invalid("with_rate", mistake);
            }
            if let Some(mistake) = limit.concurrency.and_then(Concurrency::mistake) {
                return invalid("with_concurrency", mistake);
            }
            if limit.concurrency.is_some_and(|concurrency| concurrency.share(replicas).least() == 0) {
                return invalid(
                    "with_replicas",
                    "each process would have less than one place of a concurrency: allow more calls",
                );
            }
        }
        if settings.max_principals == 0 {
            return invalid("with_max_principals", "must be greater than zero");
        }
        if !settings.costs.is_empty() && !settings.has_rate() {
            return invalid("with_cost", "no rate is set, so nothing is counted: set `with_rate`, or no cost");
        }
        settings.identity.check(LAYER)
    }

    async fn limit<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let settings = &self.settings;
        let cost = settings.costs.get(name).map_or(1, |cost| cost.of(&args));
        let call = Call { tool: &plan, identity: &settings.identity, ctx, cost };
        let admitted = match self.limits.admit(&call).await {
            Ok(admitted) => admitted,
            Err(refused) => return Ok(self.refuse(&plan, refused, name)),
        };
        self.handled.admitted.add();
        // Only to know whether a limit may be moved by the end of the call.
        let questions = if admitted.is_adaptive() { Questions::of(ctx) } else { None };
        let needed_client = || questions.as_deref().is_some_and(Questions::needed_the_client);
        let called = inner.call_tool(name, args, questions.as_deref().map_or(ctx, Questions::ctx));
        let ended = match settings.timeout {
            None => Ok(called.await),
            Some(after) => timeout(after, called).await.map_err(|_| after),
        };
        match ended {
            Ok(result) => {
                if admitted.is_adaptive() {
                    admitted.ended(Ended::of(&result, needed_client()));
                }
                result
            }
            Err(after) => {
                admitted.ended(Ended::timed_out(needed_client()));
                self.handled.timed_out.add();
                plan.counters.timeouts.increment();
                tracing::debug!(tool = name, ?after, "a call was ended after its timeout");
                Ok(refusal::timed_out(after, plan.is_read_only).to_tool_result())
            }
        }
    }

    fn refuse(&self, plan: &ToolPlan, refused: Refused, tool: &str) -> ToolResult {
        match refused {
            Refused::Rate { .. } => {
                self.handled.refused_by_rate.add();
                plan.counters.rate.increment();
            }
            Refused::Concurrency { .. } => {
                self.handled.refused_by_concurrency.add();
                plan.counters.concurrency.increment();
            }
        }
        tracing::debug!(tool, limit = ?refused, "a call was refused");
        refused.error(tool).to_tool_result()
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
            Some(plan) => Box::pin(self.limit(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }
}

impl Middleware for LimitedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.check()?;
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        let costly = self.settings.costs.keys().map(String::as_str);
        check_names(LAYER, costly.clone(), &tools)?;
        let left_out = |tool: &&Tool| self.settings.costs.contains_key(&tool.name) && !self.selects(tool);
        if let Some(tool) = tools.iter().find(left_out) {
            let reason = format!("`{}` has a cost and is left out: remove one of the two", tool.name);
            return Err(ConfigError::invalid(LAYER, "with_cost", reason));
        }
        let plan = Plan::new(&self.settings.identity, self.selection.named().chain(costly), Unknown::Counts);
        let limits = self.limits_on(&inner.server_info());
        let bound = Self { plan, limits, ..self };
        bound.observe_tools(&tools, None);
        bound.handled.bound.store(Some(Arc::new((bound.plan.clone(), bound.limits.clone()))));
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
            Known::Decided(Some(plan)) => Either::Right(self.limit(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(LimitedTool);
