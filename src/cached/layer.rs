//! The layer: it knows MCP, and keeps answers in the engine.

pub(super) mod anonymous_call;
pub(super) mod answer;
pub(super) mod builder;
pub(super) mod call;
mod describe;
pub(super) mod handle;
pub(super) mod invalidation;
pub(super) mod key;
pub(super) mod notifications;
pub(super) mod plan;
pub(super) mod session;
pub(super) mod settings;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, Tool, ToolResult};

use super::cache::Cache;
use crate::arguments::LayerArguments;
use crate::explain::list_for_bind;
use crate::middleware::{Target, impl_layer};
use crate::selection::{Hints, Known, Plan, Rule, Selection, Unknown, check_names, look_up, plan_methods, selectors};
use crate::{ConfigError, Middleware};
use answer::{ENTRY_BYTES, entry_bytes};
use call::Answers;
use handle::{Handle, HandleSlot};
use plan::{Results, Role};
use settings::{LAYER, Settings};

const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).read_only,
    "which may have an effect that a cached answer would skip: annotate it `read_only = true` if it has none, or \
                name it in `allow_skipped_effects`",
);

/// A layer that answers a repeated call from memory. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct CachedTool {
    pub(super) results: Results,
    selection: Selection,
    pub(super) settings: Arc<Settings>,
    plan: Plan<Role>,
    slot: HandleSlot,
}

const MAX_BYTES: usize = 64 << 20;
const MAX_RESULT_BYTES: usize = 1 << 20;

impl CachedTool {
    /// Creates a layer that keeps the results of read-only tools for five minutes, separately for each user. See the
    /// [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            results: Cache::new().with_max_bytes(MAX_BYTES, entry_bytes).with_max_item_bytes(MAX_RESULT_BYTES),
            selection: Selection::new(),
            settings: Arc::default(),
            plan: Plan::default(),
            slot: HandleSlot::default(),
        }
    }

    selectors!();

    /// Caches these tools too, although a call that is answered from the cache does not have their effect.
    pub fn allow_skipped_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.opt_in(tools);
        self
    }

    /// Returns a handle that controls this cache. It stays valid whatever setter is called after it, and when the layer is in a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.slot.handle(&self.results)
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    fn decide(&self, tool: &Tool) -> Option<Role> {
        let settings = &self.settings;
        if !self.selection.includes(tool, RULE) {
            let writes = settings.writes.get(&tool.name).cloned();
            return writes.map(|writes| Role::Writes(writes, LayerArguments::of(tool)));
        }
        Some(Role::Cached(Arc::new(settings.tool(tool, self.results.ttl()))))
    }

    fn answers(&self) -> Answers<'_> {
        Answers { results: &self.results, settings: &self.settings }
    }

    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        match look_up(&self.plan, self, inner, name, ctx).await.or_by_name(name, |tool| self.decide(tool)) {
            Some(Role::Cached(plan)) => self.answers().answer(plan, inner, name, args, ctx).boxed().await,
            Some(Role::Writes(writes, arguments)) => {
                self.answers().write(writes, arguments, inner, name, args, ctx).boxed().await
            }
            None => Box::pin(inner.call_tool(name, args, &self.answers().observed(ctx))).await,
        }
    }
}

impl Middleware for CachedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.results.check_as(LAYER)?;
        self.settings.check()?;
        if self.results.max_item_bytes().is_some_and(|bytes| bytes <= ENTRY_BYTES) {
            let reason = format!("must be greater than {ENTRY_BYTES}, the bytes around each result");
            return Err(ConfigError::invalid(LAYER, "with_max_result_bytes", reason));
        }
        let tools = list_for_bind(inner);
        self.selection.check(&tools, RULE)?;
        let settings = &self.settings;
        check_names(LAYER, settings.named(), &tools)?;
        let plan = Plan::new(&settings.identity, settings.named().chain(self.selection.named()), Unknown::LeftAlone);
        let is_cached = |tool: &&Tool| self.selection.includes(tool, RULE) && settings.writes.contains_key(&tool.name);
        if let Some(tool) = tools.iter().find(is_cached) {
            let reason = format!("`{}` is cached, and a cached tool cannot write: exclude it with `except`", tool.name);
            return Err(ConfigError::invalid(LAYER, "invalidates", reason));
        }
        let mut bound = Self { plan, ..self };
        let results = bound.results.clone();
        bound.settings_mut().bind(inner.server_info().name, results.settings());
        bound.observe_tools(&tools, None);
        bound.slot.bind(inner.clone(), bound.plan.clone(), bound.results.clone());
        bound.results.start();
        Ok(bound)
    }

    plan_methods!();

    fn acts_on(&self, target: Target<'_>) -> bool {
        // It hears the notifications of all calls, if they invalidate answers.
        match target {
            Target::Tool(tool) => self.settings.observes() || self.plan.may_act_on(tool),
            Target::Resource(uri) => self.settings.observes() || self.settings.resource(uri).is_some(),
            Target::Prompt(name) => self.settings.observes() || self.settings.prompt(name).is_some(),
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
            Known::Decided(None) => match self.answers().observed(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.call_tool(name, args, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.call_tool(name, args, &ctx).await }.boxed()),
            },
            // On the heap, so that a call that the layer does not act on stays small.
            Known::Decided(Some(Role::Cached(plan))) => {
                Either::Right(self.answers().answer(plan, inner, name, args, ctx).boxed())
            }
            Known::Decided(Some(Role::Writes(writes, arguments))) => {
                Either::Right(self.answers().write(writes, arguments, inner, name, args, ctx).boxed())
            }
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }

    fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ResourceResult>> + Send + 'a {
        match self.settings.resource(uri) {
            None => match self.answers().observed(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.read_resource(uri, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.read_resource(uri, &ctx).await }.boxed()),
            },
            Some(plan) => Either::Right(self.answers().answer(plan, inner, uri, (), ctx).boxed()),
        }
    }

    fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<PromptResult>> + Send + 'a {
        match self.settings.prompt(name) {
            None => match self.answers().observed(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.get_prompt(name, args, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.get_prompt(name, args, &ctx).await }.boxed()),
            },
            Some(plan) => Either::Right(self.answers().answer(plan, inner, name, args, ctx).boxed()),
        }
    }

    /// A server that keeps the session for later notifications keeps the observed one.
    fn subscribe<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<()>> + Send + 'a {
        match self.answers().observed(ctx) {
            Cow::Borrowed(ctx) => Either::Left(inner.subscribe(uri, ctx)),
            Cow::Owned(ctx) => Either::Right(async move { inner.subscribe(uri, &ctx).await }.boxed()),
        }
    }
}

impl_layer!(CachedTool);

impl Default for CachedTool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CachedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedTool")
            .field("results", &self.results)
            .field("selection", &self.selection)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
