use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{IntoToolResult, Tool, ToolResult};

use super::answers::{Answers, BatchError};
use super::batcher::Batcher;
use super::call::{self, Answer, Bulk, Call, Traveller};
use super::handle::Handle;
use super::instruments::Instruments;
use super::own_call::{OrOwn, Own, OwnCall};
use super::settings::{Of, batch_setters};
use crate::arguments::LayerArguments;
use crate::canonical::encode_str;
use crate::middleware::impl_layer;
use crate::outcome;
use crate::scope;
use crate::selection::{Hints, Known, Plan, Rule, Selection, Unknown, check_names, look_up, naming_selectors};
use crate::shared_work::{Caller, SessionOfCall, Work, client_asked, context_of_starter, session_opened};
use crate::{ConfigError, Identity, Middleware, Scope};

const LAYER: &str = "BatchedTool";

/// Without a bulk function, callers who ask for the same share one call.
const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).idempotent,
    "whose identical calls may each have an effect, of which callers that share one would miss theirs: annotate it \
                `idempotent = true` if they do not, give it a bulk function, or name it in `allow_skipped_effects`",
);

pub(super) type Calls = Batcher<Traveller, Answer>;

/// Turns calls that are made at the same time into one. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct BatchedTool {
    calls: Calls,
    selection: Selection,
    is_selected: bool,
    settings: Arc<Settings>,
    plan: Plan<Arc<ToolPlan>>,
    /// Servers that run with this layer.
    running: Arc<AtomicUsize>,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Clone)]
struct Settings {
    bulks: BTreeMap<String, Bulk>,
    scope: Scope,
    scopes: BTreeMap<String, Scope>,
    batch_key: Option<Of<Call, String>>,
    splits: bool,
    repeatable: BTreeSet<String>,
    drain_timeout: Duration,
    tells: bool,
}

/// What the layer keeps for a tool that it acts on.
pub(super) struct ToolPlan {
    pub(super) bulk: Option<Bulk>,
    pub(super) read_only: bool,
    /// Those of layers further in: what the tool itself is asked does not have them.
    pub(super) arguments: LayerArguments,
    scope: Scope,
    splits: bool,
    instruments: Arc<Instruments>,
}

/// The instruments and the bulk function follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        let compared = |plan: &Self| (plan.scope, plan.splits, plan.bulk.is_some(), plan.read_only);
        compared(self) == compared(other) && self.arguments == other.arguments
    }
}

impl BatchedTool {
    /// Up to 64 calls at a time, for the tools that you name, each user's apart. See the [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            calls: Batcher::new(call::answer)
                .with_groups(|traveller: &Traveller| traveller.group.clone())
                .with_instruments(|traveller| Arc::clone(&traveller.plan.instruments))
                // A client is not asked again.
                .split_failed_batches_of(|traveller| traveller.plan.splits && !traveller.work.has_asked()),
            selection: Selection::new(),
            is_selected: false,
            settings: Arc::new(Settings {
                bulks: BTreeMap::new(),
                scope: Scope::default(),
                scopes: BTreeMap::new(),
                batch_key: None,
                splits: false,
                repeatable: BTreeSet::new(),
                drain_timeout: Duration::from_secs(5),
                tells: true,
            }),
            plan: Plan::default(),
            running: Arc::default(),
        }
    }

    /// Acts on this tool, and has `bulk` answer its calls instead of the tool.
    ///
    /// It gets the calls and returns a result for each, in their order: a `Vec<McpResult<T>>`, or a `McpResult` of that with
    /// an error that goes to all of them. `T` is what a tool returns: a [`ToolResult`], a text, a number. Of calls that are
    /// equal it gets [one if the tool is read-only](super#equal-calls), and each if it is not.
    pub fn with_bulk<F, T>(
        mut self,
        tool: impl Into<String>,
        bulk: impl Fn(Vec<Call>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output: Answers<T, McpError>> + Send + 'static,
        T: IntoToolResult,
    {
        let bulk: Bulk = Arc::new(move |calls| {
            bulk(calls)
                .map(|answers| {
                    let results = answers.into_results()?;
                    Ok(results.into_iter().map(|result| result.map(T::into_tool_result)).collect())
                })
                .boxed()
        });
        self.settings_mut().bulks.insert(tool.into(), bulk);
        self
    }

    naming_selectors!(without every_write);

    /// Acts on these tools too, although callers who ask for the same at the same time then share one effect.
    pub fn allow_skipped_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.is_selected = true;
        self.selection.opt_in(tools);
        self
    }

    batch_setters!(|this| this.calls.settings_mut());

    /// Bounds what the calls of a batch weigh together. A call that is heavier than `max_weight` travels alone.
    pub fn with_max_weight(mut self, max_weight: u64, weigh: impl Fn(&Call) -> u64 + Send + Sync + 'static) -> Self {
        self.calls = self.calls.with_max_weight(max_weight, move |traveller| weigh(&traveller.call));
        self
    }

    /// Sets who travels together: by default each user alone.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().scope = scope;
        self
    }

    /// Sets who travels together when they call one tool.
    pub fn with_scope_for(mut self, tool: impl Into<String>, scope: Scope) -> Self {
        self.settings_mut().scopes.insert(tool.into(), scope);
        self
    }

    /// Sets how callers are told apart, each of whom travels alone, with the same rights. Give all layers the
    /// same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.calls = self.calls.with_identity(identity);
        self
    }

    /// Sends only calls with the same key together, such as those that ask the same shard.
    pub fn with_batch_key<K: Into<String>>(mut self, key: impl Fn(&Call) -> K + Send + Sync + 'static) -> Self {
        self.settings_mut().batch_key = Some(Arc::new(move |call| key(call).into()));
        self
    }

    /// Tries the halves of a batch that failed as a whole, and theirs, until the calls that cannot succeed are found: for tools
    /// that are annotated read-only or idempotent. A batch that failed for a temporary reason is not split.
    pub fn split_failed_batches(mut self) -> Self {
        self.settings_mut().splits = true;
        self
    }

    /// [Splits](Self::split_failed_batches) batches of these tools too, although their calls may then take effect twice.
    pub fn allow_repeated_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let settings = self.settings_mut();
        settings.splits = true;
        settings.repeatable.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Sets how long calls that wait may take to be answered when the server stops. What is left then is told so.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings_mut().drain_timeout = timeout;
        self
    }

    /// Says nothing in the `_meta` of results.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().tells = false;
        self
    }

    /// Returns what tells how the layer is doing, also after it has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { calls: self.calls.clone() }
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
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
            // What runs inside a transaction may see what nobody else may see yet, and a batch would run outside it.
            Some(partition) if !scope::is_in_transaction() => partition,
            _ => return Box::pin(inner.call_tool(name, args, ctx)).await,
        };
        let (caller, work) = (Caller::new(ctx, plan.scope, identity), Arc::<Work>::default());
        caller.begin(&work);
        // A call is put to a bulk function once.
        let own = plan.bulk.is_none().then(|| (Arc::<OwnCall>::default(), args.clone()));
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
        let traveller = Traveller { plan, call, group, handler, scope, session, work: Arc::clone(&work) };
        let reply = match &own {
            None => self.calls.travel(&caller, traveller).await,
            Some((own, _)) => Box::pin(self.calls.travel(&OrOwn { caller: &caller, own }, traveller)).await,
        };
        if work.has_opened_session() {
            // A cache further out has not seen it, if the call was made for somebody else.
            session_opened();
        }
        if let Some((own, args)) = own
            && let Some(own) = own.take()
        {
            return Box::pin(call_alone(own, &caller, &work, inner, name, args, ctx)).await;
        }
        if work.has_asked() {
            // The bulk function has: which of its answers depend on that, only the function knows.
            client_asked();
        }
        work.end();
        let mut result = match reply.result {
            Ok(answer) => answer,
            Err(error) => {
                // The work may go on, and is told.
                caller.leave();
                Ok(error.to_tool_result())
            }
        };
        let is_uncertain = !reply.is_certain && outcome::failure(&result).is_some();
        if is_uncertain || (self.settings.tells && reply.size > 0) {
            let mut batch = json!({ "size": reply.size });
            if is_uncertain {
                // Layers further out must not take a refusal for all that was done.
                batch["outcome"] = "unknown".into();
            }
            outcome::note(&mut result, outcome::BATCH, batch);
        }
        result
    }
}

/// Goes on with a call that has asked the caller's client, or makes the caller's own, where that of another has.
async fn call_alone<H: McpHandler>(
    own: Own,
    caller: &Caller<'_>,
    work: &Work,
    inner: &H,
    name: &str,
    args: Value,
    ctx: &RequestContext,
) -> McpResult<ToolResult> {
    match own {
        Own::GoesOn(call) => {
            let answer = caller.wait_alone(call).await;
            answer.unwrap_or_else(|| Ok(<McpError as BatchError>::cancelled().to_tool_result()))
        }
        Own::Call => {
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
            let reason =
                "no tool is batched yet: give one a bulk function with `with_bulk`, or name some with `only` or `when`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        let tools = inner.list_tools();
        if self.is_selected {
            self.selection.check(&tools, RULE)?;
        }
        let named = settings.bulks.keys().chain(settings.scopes.keys()).chain(&settings.repeatable);
        let named = named.map(String::as_str);
        check_names(LAYER, named.clone(), &tools)?;
        let plan = Plan::new(self.calls.identity(), named.chain(self.selection.named()), Unknown::LeftAlone);
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

    /// First what waits is answered, then the server below stops. Other servers that run with this layer keep it open.
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

impl Default for BatchedTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BatchedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("BatchedTool")
            .field("calls", &self.calls)
            .field("bulks", &settings.bulks.keys())
            .field("selection", &self.selection)
            .field("scope", &settings.scope)
            .field("scopes", &settings.scopes)
            .field("identity", self.calls.identity())
            .field("splits", &settings.splits)
            .field("drain_timeout", &settings.drain_timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ToolPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPlan").field("scope", &self.scope).field("splits", &self.splits).finish_non_exhaustive()
    }
}
