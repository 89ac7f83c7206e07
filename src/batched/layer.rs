//! What the layer does with a call.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::builder::BatchedTool;
use super::call::{self, BatchItem};
use super::error::BatchError;
use super::instruments::Instruments;
use super::plan::{Call, ToolPlan};
use super::unshared::{Unshared, UnsharedCell, UntilUnshared};
use crate::arguments::LayerArguments;
use crate::canonical::encode_str;
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::outcome;
use crate::scope;
use crate::selection::{Hints, Known, Plan, Rule, Unknown, check_names, look_up, plan_methods};
use crate::shared_work::{
    Caller, SessionOfCall, Work, answered_from_cache, client_asked, context_of_starter, session_opened,
};
use crate::{ConfigError, Middleware};

pub(super) const LAYER: &str = "BatchedTool";

/// Without a bulk function, equal calls are made once.
const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).idempotent,
    "whose callers would share one effect, since equal calls are made once: annotate it `idempotent = true` if that is \
                safe, give it a bulk function, or name it in `allow_skipped_effects`",
);

impl BatchedTool {
    pub(super) fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        let settings = &self.settings;
        let bulk = settings.bulks.get(&tool.name).cloned();
        let is_included = bulk.is_some() || (self.is_selected && self.selection.includes(tool, RULE));
        is_included.then(|| {
            let is_repeatable = Hints::of(tool).idempotent || settings.repeatable.contains(&tool.name);
            Arc::new(ToolPlan {
                bulk,
                read_only: Hints::of(tool).read_only,
                arguments: LayerArguments::of(tool),
                scope: settings.scopes.get(&tool.name).copied().unwrap_or(settings.scope),
                splits: settings.splits && is_repeatable,
                instruments: Arc::new(Instruments::new(&tool.name)),
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
            Some(plan) => Box::pin(self.send(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    async fn send<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let identity = self.calls.identity();
        let partition = match identity.partition(plan.scope, ctx) {
            // A call inside a transaction may read uncommitted data, and a batch would run outside of the transaction.
            Some(partition) if !scope::must_run_alone() => partition,
            _ => return Box::pin(inner.call_tool(name, args, ctx)).await,
        };
        let (caller, work) = (Caller::new(ctx, plan.scope, identity), Arc::<Work>::default());
        caller.begin(&work);
        // A bulk function gets each call once.
        let own = plan.bulk.is_none().then(|| (Arc::<UnsharedCell>::default(), args.clone()));
        let shared = if plan.bulk.is_some() { context_of_starter(&work, ctx.clone()) } else { ctx.clone() };
        let of_layers = plan.arguments.take(&mut args);
        let call = Box::new(Call { tool: name.to_owned(), args, ctx: shared, of_layers });
        let mut group = Vec::with_capacity(partition.size_hint() + name.len() + 32);
        encode_str(name, &mut group);
        partition.encode_with_rights(&mut group);
        if let Some(key) = &self.settings.batch_key {
            encode_str(&key(&call), &mut group);
        }
        let handler = own.as_ref().map(|(own, _)| (call::inner(inner.clone()), Arc::clone(own)));
        let (scope, session) = (scope::capture(), SessionOfCall::of(identity, ctx));
        let item = BatchItem { plan, call, group, handler, scope, session, work: Arc::clone(&work) };
        let reply = match &own {
            None => self.calls.submit(&caller, item).await,
            Some((own, _)) => Box::pin(self.calls.submit(&UntilUnshared { caller: &caller, own }, item)).await,
        };
        if work.has_opened_session() {
            // An outer cache has not seen it, if the call was made for another caller.
            session_opened();
        }
        if let Some(stamp) = work.oldest_answer() {
            answered_from_cache(stamp);
        }
        if let Some((own, args)) = own
            && let Some(own) = own.take()
        {
            return Box::pin(call_alone(own, &caller, &work, inner, name, args, ctx)).await;
        }
        if work.has_asked() {
            // Only the bulk function knows which of its answers depend on that client.
            client_asked();
        }
        work.end();
        let mut result = match reply.result {
            Ok(answer) => answer,
            Err(error) => {
                // The work may continue, and learns that the caller has left.
                caller.leave();
                Ok(error.to_tool_result())
            }
        };
        let is_uncertain = !reply.is_certain && outcome::failure(&result).is_some();
        if is_uncertain || (self.settings.emits_meta && reply.size > 0) {
            let mut batch = json!({ "size": reply.size });
            if is_uncertain {
                // Outer layers must not assume that nothing was done.
                batch["outcome"] = "unknown".into();
            }
            outcome::note(&mut result, outcome::BATCH, batch);
        }
        result
    }
}

/// Continues a call that has asked the caller's client, or makes the caller's own call if the shared one has asked another client.
async fn call_alone<H: McpHandler>(
    own: Unshared,
    caller: &Caller<'_>,
    work: &Work,
    inner: &H,
    name: &str,
    args: Value,
    ctx: &RequestContext,
) -> McpResult<ToolResult> {
    match own {
        Unshared::Resume(call) => {
            let answer = caller.wait_alone(call).await;
            answer.unwrap_or_else(|| Ok(<McpError as BatchError>::cancelled().to_tool_result()))
        }
        Unshared::CallAgain => {
            work.leave();
            let from_here = caller.context_from_here();
            let ctx = from_here.as_ref().map_or(ctx, |attempt| &attempt.ctx);
            inner.call_tool(name, args, ctx).await
        }
    }
}

impl Middleware for BatchedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.calls.check()?;
        let settings = &self.settings;
        if settings.bulks.is_empty() && !self.is_selected {
            let reason = "no tool is selected: give a tool a bulk function with `with_bulk`, or select tools with `only` or `when`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        let tools = list_for_bind(inner);
        if self.is_selected {
            self.selection.check(&tools, RULE)?;
        }
        let named = settings.bulks.keys().chain(settings.scopes.keys()).chain(&settings.repeatable);
        let named = named.map(String::as_str);
        check_names(LAYER, named.clone(), &tools)?;
        let plan = Plan::new(self.calls.identity(), named.chain(self.selection.named()), Unknown::LeftAlone);
        let bound = Self { plan, ..self };
        bound.observe_tools(&tools, None);
        bound.bound.store(Some(Arc::new(bound.plan.clone())));
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
            // On the heap, so that a call that the layer does not act on stays small.
            Known::Decided(Some(plan)) => Either::Right(self.send(plan, inner, name, args, ctx).boxed()),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }

    async fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.calls.open();
        inner.on_initialize().await
    }

    /// Answers the waiting calls, then stops the inner server. The layer stays open while other servers run with it.
    async fn on_shutdown<'a, H: McpHandler>(&'a self, inner: &'a H) -> McpResult<()> {
        let was_running =
            self.running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| running.checked_sub(1));
        if was_running.is_err() || was_running == Ok(1) {
            self.calls.shut_down(self.settings.drain_timeout).await;
        }
        inner.on_shutdown().await
    }
}

impl_layer!(BatchedTool);
