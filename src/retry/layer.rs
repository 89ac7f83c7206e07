use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::attempts::{Judge, Verdict};
use super::policy::{RetryPolicy, policy_setters};
use crate::idempotency_keys::KeySource;
use crate::masked::CallLabel;
use crate::middleware::impl_layer;
use crate::outcome::{self, Failure};
use crate::progress::Progress;
use crate::questions::Questions;
use crate::selection::{Hints, Known, Plan, Rule, Selection, Unknown, check_names, look_up, selectors};
use crate::telemetry::{Counter, Warning};
use crate::{ConfigError, Middleware, scope};

const LAYER: &str = "RetryTool";

const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).idempotent || KeySource::of(tool).is_some(),
    "which may repeat its effect: annotate it `idempotent = true` or `read_only = true` if it may be called \
                twice, give it an idempotency key, or name it in `allow_repeated_effects`",
);

/// Calls a tool again after a temporary failure. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct RetryTool {
    policy: RetryPolicy,
    selection: Selection,
    /// The tools whose questions may be asked again.
    asking: Arc<BTreeSet<String>>,
    temporary: Option<Predicate>,
    on_retry: Option<Hook>,
    tells: bool,
    plan: Plan<Arc<ToolPlan>>,
}

type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;
type Hook = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

/// A call is about to be made again.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The tool.
    pub tool: &'a str,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// How it failed.
    pub failure: Failure<'a>,
    /// How long the next attempt waits.
    pub delay: Duration,
}

/// What the layer keeps for a tool that it acts on.
#[derive(Debug, Clone)]
struct ToolPlan {
    /// Where a call must carry a key to be made twice: a layer further in then sees to it that it takes effect once.
    key: Option<KeySource>,
    may_ask_again: bool,
    /// Whether a call takes effect once however often it is made, by its author's annotation or by its key.
    is_idempotent: bool,
    retries: Counter,
    exhausted: Counter,
    giving_up: Arc<Warning>,
}

impl ToolPlan {
    fn may_repeat(&self, args: &Value, ctx: &RequestContext) -> bool {
        self.key.as_ref().is_none_or(|key| key.is_given(args, ctx))
    }
}

/// The counters follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.may_ask_again, self.is_idempotent) == (&other.key, other.may_ask_again, other.is_idempotent)
    }
}

impl RetryTool {
    /// Up to three attempts with full jitter, for read-only and idempotent tools. See the [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            policy: RetryPolicy::new(),
            selection: Selection::new(),
            asking: Arc::default(),
            temporary: None,
            on_retry: None,
            tells: true,
            plan: Plan::default(),
        }
    }

    selectors!();

    /// Acts on these tools too, although calling them twice may have their effect twice.
    ///
    /// A failure does not prove that nothing happened: a tool that timed out may have charged the card.
    pub fn allow_repeated_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.opt_in(tools);
        self
    }

    /// Calls these tools again also after an attempt that has asked its client: the user sees the same question once more.
    ///
    /// Otherwise, an attempt that has sent a question is the last one. See [the manual](super#tools-that-ask-their-client).
    pub fn allow_repeated_questions(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.asking).extend(tools.into_iter().map(Into::into));
        self
    }

    policy_setters!(|this| this.policy);

    /// Replaces the judgement which failures are temporary. A failure that an inner layer gave up on never is.
    pub fn with_temporary(mut self, temporary: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.temporary = Some(Arc::new(temporary));
        self
    }

    /// Calls `hook` before each wait for another attempt.
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(hook));
        self
    }

    /// Says nothing in the `_meta` of a success. A failure still says how often it was tried, to layers further out.
    pub fn without_meta(mut self) -> Self {
        self.tells = false;
        self
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selection.includes(tool, RULE).then(|| {
            let is_safe = Hints::of(tool).idempotent || self.selection.is_opted_in(tool);
            Arc::new(ToolPlan {
                key: KeySource::of(tool).filter(|_| !is_safe),
                may_ask_again: self.asking.contains(&tool.name),
                is_idempotent: Hints::of(tool).idempotent || !is_safe,
                retries: Counter::new("mcp_patterns_retries_total", &[("tool", &tool.name)]),
                exhausted: Counter::new("mcp_patterns_retries_exhausted_total", &[("tool", &tool.name)]),
                giving_up: Arc::default(),
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
        let questions = if plan.may_ask_again { None } else { Questions::of(ctx) };
        let ctx = questions.as_deref().map_or(ctx, Questions::ctx);
        let progress = Progress::wanted(ctx);
        let judge = ByOutcome { layer: self, plan: &plan, tool: name, questions: questions.as_deref() };
        let driven = self
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
                    // The log says which attempt it was.
                    _ => {
                        let label = CallLabel::current().with_attempt(number);
                        scope::capture().with(Arc::new(label)).enter(call).boxed()
                    }
                })
            })
            .await;
        let mut result = driven.result;
        if let Some(exhausted) = driven.exhausted {
            plan.exhausted.increment();
            if let Some(unsaid) = plan.giving_up.due() {
                let (attempts, reason) = (driven.attempts, exhausted.as_str());
                tracing::warn!(tool = name, attempts, reason, unsaid, "no further attempt");
            }
            outcome::note(&mut result, outcome::EXHAUSTED, exhausted.as_str());
        }
        // Layers further out have to know of a failure whether an earlier attempt may have taken effect.
        let tells = self.tells || outcome::failure(&result).is_some();
        if driven.exhausted.is_some() || (tells && driven.attempts > 1) {
            outcome::note(&mut result, outcome::ATTEMPTS, driven.attempts);
        }
        result
    }
}

impl Middleware for RetryTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.policy.check()?;
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        let asking = self.asking.iter().map(String::as_str);
        check_names(LAYER, asking.clone(), &tools)?;
        let plan = Plan::new(&self.policy.identity, self.selection.named().chain(asking), Unknown::LeftAlone);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
        Ok(bound)
    }

    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        self.plan.learn(tools, ctx, |tool| self.decide(tool));
    }

    fn forget_definitions(&self) {
        self.plan.forget();
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
                // On the heap, so that a call that is not retried does not carry a retry along.
                Either::Right(self.retry(plan, inner, name, args, ctx).boxed())
            }
            Known::Decided(_) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(RetryTool);

/// Judges the results of tool calls.
struct ByOutcome<'a> {
    layer: &'a RetryTool,
    plan: &'a ToolPlan,
    tool: &'a str,
    questions: Option<&'a Questions>,
}

impl Judge<McpResult<ToolResult>> for ByOutcome<'_> {
    fn verdict(&self, result: &McpResult<ToolResult>) -> Option<Verdict> {
        outcome::failure(result).map(|failure| match &self.layer.temporary {
            Some(temporary) => Verdict::of(&failure, temporary.as_ref()),
            // A connection that was lost says nothing about the next one.
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

impl Default for RetryTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryTool")
            .field("policy", &self.policy)
            .field("selection", &self.selection)
            .field("asking", &self.asking)
            .finish_non_exhaustive()
    }
}
