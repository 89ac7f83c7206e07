//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::attempts::{Judge, Verdict};
use super::builder::{RetryEvent, RetryTool};
use super::plan::ToolPlan;
use crate::explain::list_for_bind;
use crate::idempotency_keys::KeySource;
use crate::masked::CallLabel;
use crate::middleware::{Target, impl_layer};
use crate::outcome;
use crate::progress::Progress;
use crate::questions::Questions;
use crate::selection::{Hints, Known, Plan, Rule, Unknown, check_names, look_up, plan_methods};
use crate::telemetry::Counter;
use crate::{ConfigError, Middleware, scope};

pub(super) const LAYER: &str = "RetryTool";

pub(super) const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).idempotent || KeySource::of(tool).is_some(),
    "which may repeat its effect: annotate it `idempotent = true` or `read_only = true` if it may be called \
                twice, give it an idempotency key, or name it in `allow_repeated_effects`",
);

impl RetryTool {
    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selection.includes(tool, RULE).then(|| {
            let is_safe = Hints::of(tool).idempotent || self.selection.is_opted_in(tool);
            Arc::new(ToolPlan {
                key: KeySource::of(tool).filter(|_| !is_safe),
                may_repeat_questions: self.repeats_questions.contains(&tool.name),
                is_idempotent: Hints::of(tool).idempotent || !is_safe,
                retries: Counter::new("mcp_patterns_retries_total", &[("tool", &tool.name)]),
                exhausted: Counter::new("mcp_patterns_retries_exhausted_total", &[("tool", &tool.name)]),
                exhausted_warning: Arc::default(),
            })
        })
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        match look_up(&self.plan, self, inner, name, ctx).await.or_by_name(name, |tool| self.decide(tool)) {
            Some(plan) if plan.may_repeat(&args, ctx) => Box::pin(self.retry(plan, inner, name, args, ctx)).await,
            _ => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    async fn retry<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let questions = if plan.may_repeat_questions { None } else { Questions::of(ctx) };
        let ctx = questions.as_deref().map_or(ctx, Questions::ctx);
        let progress = Progress::wanted(ctx);
        let judge = ByOutcome { layer: self, plan: &plan, tool: name, questions: questions.as_deref() };
        let last = self
            .policy
            .drive(ctx, &judge, |number| {
                let args = args.clone();
                if progress.is_none() && number == 1 {
                    return Either::Left(inner.call_tool(name, args, ctx));
                }
                let attempt = progress.as_ref().map(|progress| progress.attempt(ctx));
                let call = async move {
                    inner.call_tool(name, args, attempt.as_ref().map_or(ctx, |attempt| &attempt.ctx)).await
                };
                Either::Right(match number {
                    1 => call.boxed(),
                    // The log has the number of the attempt.
                    _ => {
                        let label = CallLabel::current().with_attempt(number);
                        scope::capture().with(Arc::new(label)).enter(call).boxed()
                    }
                })
            })
            .await;
        let mut result = last.result;
        if let Some(exhausted) = last.exhausted {
            plan.exhausted.increment();
            if let Some(unsaid) = plan.exhausted_warning.due() {
                let (attempts, reason) = (last.attempts, exhausted.as_str());
                tracing::warn!(tool = name, attempts, reason, unsaid, "no further attempt");
            }
            outcome::note(&mut result, outcome::EXHAUSTED, exhausted.as_str());
        }
        // Outer layers need to know whether an earlier attempt of a failed call may have taken effect.
        let emits_meta = self.emits_meta || outcome::failure(&result).is_some();
        if last.exhausted.is_some() || (emits_meta && last.attempts > 1) {
            outcome::note(&mut result, outcome::ATTEMPTS, last.attempts);
        }
        result
    }
}

impl Middleware for RetryTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.policy.check()?;
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        let repeats_questions = self.repeats_questions.iter().map(String::as_str);
        check_names(LAYER, repeats_questions.clone(), &tools)?;
        let plan =
            Plan::new(&self.policy.identity, self.selection.named().chain(repeats_questions), Unknown::LeftAlone);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
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
            Known::Decided(Some(plan)) if plan.may_repeat(&args, ctx) => {
                // On the heap, so that the future of a call that is not retried stays small.
                Either::Right(self.retry(plan, inner, name, args, ctx).boxed())
            }
            Known::Decided(_) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(RetryTool);

/// Classifies the results of tool calls.
struct ByOutcome<'a> {
    layer: &'a RetryTool,
    plan: &'a ToolPlan,
    tool: &'a str,
    questions: Option<&'a Questions>,
}

impl Judge<McpResult<ToolResult>> for ByOutcome<'_> {
    fn verdict(&self, result: &McpResult<ToolResult>) -> Option<Verdict> {
        outcome::failure(result).map(|failure| match &self.layer.retry_if {
            Some(retry_if) => Verdict::of(&failure, retry_if.as_ref()),
            // A lost connection predicts nothing about the next one.
            None => {
                Verdict::of(&failure, |failure| failure.is_temporary() || self.plan.is_idempotent && failure.is_lost())
            }
        })
    }

    fn timed_out(&self, after: Duration) -> McpResult<ToolResult> {
        Ok(outcome::marked(outcome::RETRY, "timed_out", outcome::timed_out(after)).to_tool_result())
    }

    fn will_retry(&self, attempt: u32, result: &McpResult<ToolResult>, delay: Duration) {
        let Some(failure) = outcome::failure(result) else { return };
        self.plan.retries.increment();
        tracing::debug!(tool = self.tool, attempt, kind = ?failure.kind(), ?delay, "retrying");
        if let Some(hook) = &self.layer.on_retry {
            hook(&RetryEvent { tool: self.tool, attempt, failure, delay });
        }
    }

    fn may_repeat(&self) -> bool {
        !self.questions.is_some_and(Questions::were_asked)
    }
}
