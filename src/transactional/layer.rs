//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use tower_layer::Layer;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::ambiguous::RecordedClaims;
use super::answer::{Answer, ByOutcome, Ending};
use super::builder::TransactionalTool;
use super::dialect::Dialect;
use super::error::TRANSACTION;
use super::keyed_call::KeyedCall;
use super::plan::ToolPlan;
use super::records::RECORDS;
use crate::explain::list_for_bind;
use crate::idempotency_keys::{Bound, KeyCounts, KeyOutcome};
use crate::middleware::Target;
use crate::outcome::{self, Unfinished};
use crate::questions::Questions;
use crate::selection::{Hints, Known, Plan, Rule, check_names, look_up, plan_methods};
use crate::{ConfigError, Layered, Middleware, TryLayer};

pub(super) const LAYER: &str = "TransactionalTool";

/// A transaction does no harm to any tool, so the layer acts on every tool that its user selects.
const RULE: Rule = Rule::every_tool(LAYER);

/// The timeout of checking the table at the start, of listing ambiguous calls, and of resolving one.
const CLAIMS_TIMEOUT: Duration = Duration::from_secs(5);

impl<DB: Dialect> TransactionalTool<DB> {
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
            Some(plan) => Box::pin(self.transact(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    async fn transact<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let questions = Questions::of(ctx);
        let ctx = questions.as_deref().map_or(ctx, Questions::ctx);
        let result = self.transact_in(&plan, inner, name, args, ctx, questions.as_deref()).await;
        if questions.is_some_and(|questions| questions.were_asked()) {
            plan.warn_of_questions(name);
        }
        result
    }

    async fn transact_in<H: McpHandler>(
        &self,
        plan: &ToolPlan,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
        questions: Option<&Questions>,
    ) -> McpResult<ToolResult> {
        // A read-only call needs no key, and its transaction could not record one.
        if let Some((idempotency, counts)) = self.idempotency.as_deref().zip(plan.keys.as_ref()) {
            match idempotency.key(&self.space, name, &counts.arguments, &mut args, ctx) {
                Err(refused) => return counts.answer(KeyOutcome::Refused, &refused),
                Ok(Some(key)) => {
                    let call = KeyedCall {
                        transactor: &self.transactor,
                        shared: &self.keyed_calls,
                        wait: self.wait,
                        idempotency,
                        key: &key,
                        counts,
                        transactions: &plan.counts,
                        emit_meta: self.emit_meta,
                        questions,
                    };
                    return call.run(ctx, || inner.call_tool(name, args.clone(), ctx).map(without_task)).await;
                }
                Ok(None) => {}
            }
        }
        let results = ByOutcome { counts: &plan.counts, key: None, emit_meta: self.emit_meta, questions };
        let answer = self.transactor.drive(plan.read_only, ctx, &results, || {
            // Not an `async` block: that would store the call twice.
            let call = inner.call_tool(name, args.clone(), ctx);
            call.map(|result| Answer { result: without_task(result), end: Ending::ByResult })
        });
        answer.await.result
    }

    /// Returns whether a call of the tool may have a key.
    fn takes_key(&self, tool: &Tool) -> bool {
        self.idempotency.is_some() && self.selection.includes(tool, RULE) && !Hints::of(tool).read_only
    }

    fn keys_of(&self, tool: &Tool) -> Option<KeyCounts> {
        let idempotency = self.idempotency.as_ref().filter(|_| self.takes_key(tool))?;
        idempotency.counts(LAYER, tool)
    }

    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selection
            .includes(tool, RULE)
            .then(|| Arc::new(ToolPlan::new(&tool.name, Hints::of(tool).read_only, self.keys_of(tool))))
    }

    /// Adds the key to the schemas of the tools that take one: a read-only tool needs none.
    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        if let Some(idempotency) = &self.idempotency {
            for tool in tools.iter_mut().filter(|tool| self.takes_key(tool)) {
                idempotency.advertise(tool);
            }
        }
        tools
    }
}

/// Refuses a task in place of an answer: it continues after the transaction has ended.
fn without_task(result: McpResult<ToolResult>) -> McpResult<ToolResult> {
    match outcome::failure(&result).and_then(|failure| failure.unfinished()) {
        None | Some(Unfinished::InputRequired) => result,
        Some(_) => {
            let error = McpError::internal(
                "The tool has started a task, which cannot be a part of a transaction. The transaction was rolled back; the task may still \
                 run. Take the tool out of `TransactionalTool`, or let it answer without a task",
            );
            Ok(outcome::marked(TRANSACTION, "task", error).to_tool_result())
        }
    }
}

impl<DB: Dialect> Middleware for TransactionalTool<DB> {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.transactor.check()?;
        if !self.is_selected {
            let reason = "no tool runs in a transaction yet: name them with `only`, or use `when` or `every_write`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        self.space.check(LAYER)?;
        let tools = list_for_bind(inner);
        let keyed = self.idempotency.iter().flat_map(|idempotency| idempotency.named());
        let named: Vec<_> = keyed.chain(self.selection.named()).collect();
        if !self.allows_unlisted {
            check_names(LAYER, named.iter().copied(), &tools)?;
        }
        let plan = Plan::new(&self.space.identity, named, self.selection.unknown());
        if let Some(idempotency) = &self.idempotency {
            if self.transactor.begin.read_only {
                let reason =
                    "a read-only transaction cannot record an answer: remove this setting, or `Transactor::read_only`";
                return Err(ConfigError::invalid(LAYER, "with_idempotency", reason));
            }
            idempotency.check_for(LAYER, &tools, |tool| self.takes_key(tool))?;
        }
        let mut bound = Self { plan, ..self };
        Arc::make_mut(&mut bound.space).server = inner.server_info().name;
        bound.observe_tools(&tools, None);
        bound.handle.bind_tools({
            let plan = bound.plan.clone();
            move || plan.tools()
        });
        if let Some(idempotency) = &bound.idempotency {
            let plan = bound.plan.clone();
            bound.handle.bind(Bound {
                space: Arc::clone(&bound.space),
                idempotency: Arc::clone(idempotency),
                acts_on: Box::new(move |tool| plan.of_anybody(tool).is_some_and(|plan| plan.keys.is_some())),
                claims: Arc::new(RecordedClaims(bound.transactor.pool.clone())),
                timeout: CLAIMS_TIMEOUT,
            });
        }
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
        if self.idempotency.is_some() {
            RECORDS.check(&self.transactor.connections, CLAIMS_TIMEOUT).await?;
        }
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
            Known::Decided(Some(plan)) => Either::Right(self.transact(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl<DB: Dialect, H: McpHandler> Layer<H> for TransactionalTool<DB> {
    type Service = Layered<Self, H>;

    fn layer(&self, inner: H) -> Self::Service {
        crate::middleware::or_panic(self.try_layer(inner))
    }
}

impl<DB: Dialect, H: McpHandler> TryLayer<H> for TransactionalTool<DB> {
    fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
        Layered::try_new(self.clone(), inner)
    }
}
