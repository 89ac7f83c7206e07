pub(super) mod answer;
pub(super) mod builder;
pub(super) mod call;
pub(super) mod handle;
pub(super) mod invalidation;
pub(super) mod key;
pub(super) mod notifications;
pub(super) mod plan;
pub(super) mod session;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, Tool, ToolResult};

use super::cache::Cache;
use crate::arguments::LayerArguments;
use crate::middleware::impl_layer;
use crate::selection::{Hints, Known, Plan, Rule, Selection, Unknown, check_names, look_up, selectors};
use crate::telemetry::Counter;
use crate::{ConfigError, Identity, Middleware, Scope};
use answer::{ENTRY_BYTES, entry_bytes};
use call::{AnswerPlan, Results};
use handle::{Bound, Handle};
use invalidation::{Domains, Writes};
use key::{KeyPrefix, Kind};
use plan::Reads;

pub(super) const LAYER: &str = "CachedTool";

const RULE: Rule = Rule::new(
    LAYER,
    |tool| Hints::of(tool).read_only,
    "which may change something that a cached answer would skip: annotate it `read_only = true` if it changes \
                nothing, or name it in `allow_skipped_effects`",
);

/// Answers a call from memory where the same call was answered before. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct CachedTool {
    pub(super) results: Results,
    selection: Selection,
    pub(super) settings: Arc<Settings>,
    plan: Plan<Role>,
    bound: Bound,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) ttls: BTreeMap<String, Duration>,
    pub(super) scope: Scope,
    pub(super) identity: Identity,
    pub(super) scopes: BTreeMap<String, Scope>,
    pub(super) tags: BTreeMap<String, Vec<Domains>>,
    pub(super) writes: BTreeMap<String, Arc<Writes>>,
    pub(super) resources: Reads,
    pub(super) prompts: Reads,
    pub(super) namespace: Option<String>,
    pub(super) version: String,
    pub(super) tells: bool,
    /// The name of the server that the layer is on.
    pub(super) server: String,
}

impl Settings {
    /// Notes what the layer is on.
    fn bind(&mut self, server: String, ttl: Duration) {
        self.server = server;
        let (resources, prompts) = (self.prefix(Kind::Resource, None), self.prefix(Kind::Prompt, None));
        self.resources.bind(resources, ttl, self.scope, &self.identity);
        self.prompts.bind(prompts, ttl, self.scope, &self.identity);
    }

    /// Whether anything is kept of which a server tells its clients that it has changed.
    pub(super) fn hears(&self) -> bool {
        self.resources.are_kept() || self.prompts.are_kept()
    }

    fn prefix(&self, kind: Kind, name: Option<&str>) -> KeyPrefix {
        KeyPrefix::new(kind, name, self.namespace.as_deref().unwrap_or_default(), &self.server, &self.version)
    }
}

/// What the layer does with a tool that it acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Role {
    /// Its results are kept.
    Cached(Arc<AnswerPlan>),
    /// It makes results of others wrong.
    Writes(Arc<Writes>, LayerArguments),
}

const MAX_BYTES: u64 = 64 << 20;
const MAX_RESULT_BYTES: u64 = 1 << 20;

impl CachedTool {
    /// Keeps the results of read-only tools for five minutes, each user's apart. See the [defaults](super#defaults).
    pub fn new() -> Self {
        Self {
            results: Cache::new().with_max_bytes(MAX_BYTES, entry_bytes).with_max_item_bytes(MAX_RESULT_BYTES),
            selection: Selection::new(),
            settings: Arc::new(Settings {
                ttls: BTreeMap::new(),
                scope: Scope::default(),
                identity: Identity::new(),
                scopes: BTreeMap::new(),
                tags: BTreeMap::new(),
                writes: BTreeMap::new(),
                resources: Reads::new(Kind::Resource),
                prompts: Reads::new(Kind::Prompt),
                namespace: None,
                version: String::new(),
                tells: true,
                server: String::new(),
            }),
            plan: Plan::default(),
            bound: Bound::default(),
        }
    }

    selectors!();

    /// Acts on these tools too, although a call that is answered from the cache does not have their effect.
    pub fn allow_skipped_effects(mut self, tools: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.opt_in(tools);
        self
    }

    /// Returns what controls this cache, also after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.results, &self.bound)
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
        let counter =
            |outcome| Counter::new("mcp_patterns_cache_requests_total", &[("tool", &tool.name), ("outcome", outcome)]);
        Some(Role::Cached(Arc::new(AnswerPlan {
            prefix: settings.prefix(Kind::Tool, Some(&tool.name)),
            ttl: settings.ttls.get(&tool.name).copied().unwrap_or_else(|| self.results.ttl()),
            scope: settings.scopes.get(&tool.name).copied().unwrap_or(settings.scope),
            identity: settings.identity.clone(),
            tags: settings.tags.get(&tool.name).cloned().unwrap_or_default(),
            arguments: LayerArguments::of(tool),
            hears: settings.hears(),
            hits: counter("hit"),
            misses: counter("miss"),
        })))
    }
}

impl CachedTool {
    async fn call_unknown<H: McpHandler>(
        &self,
        inner: &H,
        name: &str,
        args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        match look_up(&self.plan, self, inner, name, ctx).await.or_by_name(name, |tool| self.decide(tool)) {
            Some(Role::Cached(plan)) => self.cached(plan, inner, name, args, ctx).boxed().await,
            Some(Role::Writes(writes, arguments)) => {
                self.write(writes, arguments, inner, name, args, ctx).boxed().await
            }
            None => Box::pin(inner.call_tool(name, args, &self.heard(ctx))).await,
        }
    }
}

impl Middleware for CachedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.settings.identity.check(LAYER)?;
        ConfigError::check_namespace(LAYER, self.settings.namespace.as_deref())?;
        if self.settings.ttls.values().chain([&self.results.ttl()]).any(Duration::is_zero) {
            let reason = "a ttl of zero keeps nothing: use `except` to leave a tool out";
            return Err(ConfigError::invalid(LAYER, "with_ttl", reason));
        }
        self.results.check()?;
        if self.results.max_item_bytes().is_some_and(|bytes| bytes <= ENTRY_BYTES) {
            let reason = format!("no result fits: {ENTRY_BYTES} bytes go to what is around it, so allow more");
            return Err(ConfigError::invalid(LAYER, "with_max_result_bytes", reason));
        }
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        let settings = &self.settings;
        settings.resources.check(settings.writes.values().any(|writes| writes.resources))?;
        settings.prompts.check(false)?;
        let written = settings.writes.values().flat_map(|writes| &writes.tools);
        let named = settings.ttls.keys().chain(settings.scopes.keys()).chain(settings.tags.keys());
        let named = named.chain(settings.writes.keys()).chain(written).map(String::as_str);
        check_names(LAYER, named.clone(), &tools)?;
        let plan = Plan::new(&settings.identity, named.chain(self.selection.named()), Unknown::LeftAlone);
        let is_cached = |tool: &&Tool| self.selection.includes(tool, RULE) && settings.writes.contains_key(&tool.name);
        if let Some(tool) = tools.iter().find(is_cached) {
            let reason = format!("`{}` is cached, so a call may not write: leave it out with `except`", tool.name);
            return Err(ConfigError::invalid(LAYER, "invalidates", reason));
        }
        let mut bound = Self { plan, ..self };
        let ttl = bound.results.ttl();
        bound.settings_mut().bind(inner.server_info().name, ttl);
        bound.observe_tools(&tools, None);
        bound.bound.set(inner.clone(), bound.plan.clone());
        bound.results.start();
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
            Known::Decided(None) => match self.heard(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.call_tool(name, args, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.call_tool(name, args, &ctx).await }.boxed()),
            },
            // On the heap, so that a call that the layer does not act on stays small.
            Known::Decided(Some(Role::Cached(plan))) => {
                Either::Right(self.cached(plan, inner, name, args, ctx).boxed())
            }
            Known::Decided(Some(Role::Writes(writes, arguments))) => {
                Either::Right(self.write(writes, arguments, inner, name, args, ctx).boxed())
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
        match self.settings.resources.plan(uri) {
            None => match self.heard(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.read_resource(uri, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.read_resource(uri, &ctx).await }.boxed()),
            },
            Some(plan) => Either::Right(self.cached(plan, inner, uri, (), ctx).boxed()),
        }
    }

    fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<PromptResult>> + Send + 'a {
        match self.settings.prompts.plan(name) {
            None => match self.heard(ctx) {
                Cow::Borrowed(ctx) => Either::Left(inner.get_prompt(name, args, ctx)),
                Cow::Owned(ctx) => Either::Right(async move { inner.get_prompt(name, args, &ctx).await }.boxed()),
            },
            Some(plan) => Either::Right(self.cached(plan, inner, name, args, ctx).boxed()),
        }
    }

    /// A server that keeps the session, to tell of updates later, keeps one that is heard.
    fn subscribe<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<()>> + Send + 'a {
        match self.heard(ctx) {
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
