use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::cache::Cache;
use super::error::LoadError;
use super::handle::{Bound, Handle};
use super::key::{CallKey, KeyPrefix, tool_domain};
use super::sessions::{Unkept, of_own_session, unshared, watched};
use super::shared::Source;
use super::writes::{Dirt, Domains, OfEntry, Writes};
use crate::identity::Partition;
use crate::middleware::impl_layer;
use crate::outcome;
use crate::selection::{Hints, Plan, Rule, Selection, check_names, selectors};
use crate::shared::{Abandoned, SessionOfCall, is_in_transaction, shared_context};
use crate::telemetry::Counter;
use crate::{ConfigError, Middleware, Scope};

pub(super) const LAYER: &str = "CachedTool";

const RULE: Rule = Rule {
    layer: LAYER,
    is_safe: |tool| Hints::of(tool).read_only,
    otherwise: "which may change something that a cached answer would skip: annotate it `read_only = true` if it changes \
                nothing, or name it in `allow_skipped_effects`",
};

/// The results of successful calls, and of failed ones for those who wait.
pub(super) type Results = Cache<CallKey, ToolResult, Unkept>;

/// Answers a call from memory where the same call was answered before. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct CachedTool {
    pub(super) results: Results,
    selection: Selection,
    settings: Arc<Settings>,
    plan: Plan<Role>,
    bound: Bound,
}

/// Behind an `Arc`, since a layer is cloned for each request.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    ttls: BTreeMap<String, Duration>,
    scope: Scope,
    scopes: BTreeMap<String, Scope>,
    pub(super) tags: BTreeMap<String, Vec<Domains>>,
    pub(super) writes: BTreeMap<String, Arc<Writes>>,
    version: String,
    tells: bool,
    /// The name of the server that the layer is on.
    server: String,
}

/// What the layer does with a tool that it acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Role {
    /// Its results are kept.
    Cached(Arc<ToolPlan>),
    /// It makes results of others wrong.
    Writes(Arc<Writes>),
}

/// What the layer keeps for a tool whose results it keeps.
#[derive(Debug)]
pub(super) struct ToolPlan {
    prefix: KeyPrefix,
    domain: u64,
    ttl: Duration,
    pub(super) scope: Scope,
    tags: Vec<Domains>,
    hits: Counter,
    misses: Counter,
}

/// The counters follow from the rest.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.prefix, self.ttl, self.scope, &self.tags) == (&other.prefix, other.ttl, other.scope, &other.tags)
    }
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
                scopes: BTreeMap::new(),
                tags: BTreeMap::new(),
                writes: BTreeMap::new(),
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

    /// Sets how long a result is kept.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.results = self.results.with_ttl(ttl);
        self
    }

    /// Sets how long the results of one tool are kept.
    pub fn with_ttl_for(mut self, tool: impl Into<String>, ttl: Duration) -> Self {
        self.settings_mut().ttls.insert(tool.into(), ttl);
        self
    }

    /// Drops a result that nobody asked for during `idle_time`, before its ttl ends.
    pub fn with_idle_time(mut self, idle_time: Duration) -> Self {
        self.results = self.results.with_idle_time(idle_time);
        self
    }

    /// Sets who shares a result: by default each user has their own.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.settings_mut().scope = scope;
        self
    }

    /// Sets who shares the results of one tool.
    pub fn with_scope_for(mut self, tool: impl Into<String>, scope: Scope) -> Self {
        self.settings_mut().scopes.insert(tool.into(), scope);
        self
    }

    /// Keeps results apart from those of another version of the server.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.settings_mut().version = version.into();
        self
    }

    /// Bounds the number of results. The cache starts anew: take its [`handle`](Self::handle) afterwards.
    pub fn with_max_entries(mut self, max_entries: u64) -> Self {
        self.results = self.results.with_max_entries(max_entries);
        self
    }

    /// Bounds the bytes of all results, as JSON, with half a kilobyte on top for each. The cache starts anew: take its
    /// [`handle`](Self::handle) afterwards.
    ///
    /// A result counts for `max_bytes / max_entries` at least: so one bound keeps both.
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.results = self.results.with_max_bytes(max_bytes, entry_bytes);
        self
    }

    /// Passes on, but does not keep, a result above `max_result_bytes`, its key and half a kilobyte included.
    pub fn with_max_result_bytes(mut self, max_result_bytes: u64) -> Self {
        self.results = self.results.with_max_item_bytes(max_result_bytes);
        self
    }

    /// Gives a call to the tool up after `timeout`, with an error to all who wait for it.
    pub fn with_load_timeout(mut self, timeout: Duration) -> Self {
        self.results = self.results.with_load_timeout(timeout);
        self
    }

    /// Lets calls to the tool take as long as they take.
    pub fn without_load_timeout(mut self) -> Self {
        self.results = self.results.without_load_timeout();
        self
    }

    /// Says nothing in the `_meta` of results.
    pub fn without_meta(mut self) -> Self {
        self.settings_mut().tells = false;
        self
    }

    /// Returns what controls this cache, also after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { results: self.results.clone(), bound: self.bound.clone() }
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    fn decide(&self, tool: &Tool) -> Option<Role> {
        let settings = &self.settings;
        if !self.selection.includes(tool, RULE) {
            return settings.writes.get(&tool.name).cloned().map(Role::Writes);
        }
        let counter =
            |outcome| Counter::new("mcp_patterns_cache_requests_total", &[("tool", &tool.name), ("outcome", outcome)]);
        Some(Role::Cached(Arc::new(ToolPlan {
            prefix: KeyPrefix::new(&settings.server, &settings.version, &tool.name),
            domain: tool_domain(&tool.name),
            ttl: settings.ttls.get(&tool.name).copied().unwrap_or_else(|| self.results.ttl()),
            scope: settings.scopes.get(&tool.name).copied().unwrap_or(settings.scope),
            tags: settings.tags.get(&tool.name).cloned().unwrap_or_default(),
            hits: counter("hit"),
            misses: counter("miss"),
        })))
    }

    /// Calls a tool that writes and, if it succeeds, forgets what it made wrong.
    async fn write<'a, H: McpHandler>(
        &'a self,
        writes: Arc<Writes>,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let dirt = Dirt::new(&self.results, writes.of(&args));
        let result = inner.call_tool(name, args, ctx).await;
        if outcome::failure(&result).is_some() {
            dirt.never_mind();
        } else {
            tracing::debug!(tool = name, "a write invalidates");
            dirt.forget().await;
        }
        result
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice, and every call carries them")]
    fn cached<'a, H: McpHandler>(
        &'a self,
        plan: Arc<ToolPlan>,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        async move {
            let caller = match Partition::of(plan.scope, ctx) {
                // What runs inside a transaction may see what nobody else may see yet, and a shared call would run outside it.
                Some(caller) if !is_in_transaction() => caller,
                _ => return Box::pin(inner.call_tool(name, args, ctx)).await,
            };
            let found = get_or_call(&self.results, &plan, &caller, inner, name, args, ctx).await;
            let (mut result, source) = match found {
                Ok(found) => found,
                Err(Failed(result)) => {
                    plan.misses.increment();
                    return result;
                }
            };
            let status = Status::of(source);
            if status.is_hit { &plan.hits } else { &plan.misses }.increment();
            tracing::debug!(tool = name, cache = status.word);
            if status.is_hit
                && let Some(meta) = &mut result.meta
            {
                // What it took to get the result is no news about this call.
                meta.remove(outcome::ATTEMPTS);
            }
            let mut result = Ok(result);
            if self.settings.tells {
                outcome::note(&mut result, outcome::CACHE, status.to_meta());
            }
            result
        }
    }
}

/// What a result's `_meta` says of where it came from.
struct Status {
    word: &'static str,
    is_hit: bool,
    from: Option<(Duration, u8)>,
}

impl Status {
    fn of(source: Source) -> Self {
        match source {
            Source::Hit { age, level } => Self { word: "hit", is_hit: true, from: Some((age, level)) },
            Source::Stale { age, level } => Self { word: "stale", is_hit: true, from: Some((age, level)) },
            Source::Load => Self { word: "miss", is_hit: false, from: None },
        }
    }

    fn to_meta(&self) -> Value {
        match self.from {
            Some((age, level)) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                json!({"status": self.word, "level": level, "ageMs": age})
            }
            None => json!({"status": self.word}),
        }
    }
}

/// Answers a call from the cache, or from the tool in a task of its own.
pub(super) async fn get_or_call<H: McpHandler>(
    results: &Results,
    plan: &ToolPlan,
    caller: &Partition<'_>,
    inner: &H,
    name: &str,
    args: Value,
    ctx: &RequestContext,
) -> Result<(ToolResult, Source), Failed> {
    let (key, call_domain) = CallKey::new(&plan.prefix, caller, name, &args);
    let domains = OfEntry::of_call(plan.domain, call_domain, &plan.tags, &args);
    if plan.scope == Scope::Session {
        // An outer cache does not see the tool open its session, where the result is kept.
        crate::scope::session_opened();
    }
    let mut args = Some(args);
    let load = |abandoned| {
        let args = args.take().unwrap_or_default();
        watched(plan.scope, ctx, call(inner, name, args, ctx, abandoned))
    };
    match results.get_or_load_in(ctx, key, &domains, plan.ttl, load).await {
        Ok(found) => Ok(found),
        Err(Unkept::Failed(failed)) => Err(failed),
        // Whoever still has the arguments did not make the call.
        Err(Unkept::OfSession(result, session)) => match args {
            Some(args) if !session.is_that_of(&SessionOfCall::of(ctx)) => {
                Box::pin(unshared(inner.call_tool(name, args, ctx))).await
            }
            _ => of_own_session(result),
        },
    }
}

/// Calls the tool in a task of its own, whatever is kept, and keeps its result.
pub(super) async fn call_and_keep<H: McpHandler>(
    results: &Results,
    plan: &ToolPlan,
    caller: &Partition<'_>,
    inner: &H,
    name: &str,
    args: Value,
    ctx: &RequestContext,
) -> Result<(ToolResult, Source), Failed> {
    let (key, call_domain) = CallKey::new(&plan.prefix, caller, name, &args);
    let domains = OfEntry::of_call(plan.domain, call_domain, &plan.tags, &args);
    let load = |abandoned| watched(plan.scope, ctx, call(inner, name, args, ctx, abandoned));
    match results.refresh_in(ctx, key, &domains, plan.ttl, load).await {
        Ok(found) => Ok(found),
        Err(Unkept::Failed(failed)) => Err(failed),
        Err(Unkept::OfSession(result, _)) => of_own_session(result),
    }
}

/// A call that several may wait for.
fn call<H: McpHandler>(
    inner: &H,
    name: &str,
    args: Value,
    ctx: &RequestContext,
    abandoned: Abandoned,
) -> impl Future<Output = McpResult<ToolResult>> + Send + use<H> {
    let (inner, name, ctx) = (inner.clone(), name.to_owned(), shared_context(ctx, abandoned));
    async move { inner.call_tool(&name, args, &ctx).await }
}

impl Middleware for CachedTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.results.check(LAYER)?;
        if self.settings.ttls.values().chain([&self.results.ttl()]).any(Duration::is_zero) {
            let reason = "a ttl of zero keeps nothing: use `except` to leave a tool out";
            return Err(ConfigError::invalid(LAYER, "with_ttl", reason));
        }
        if self.results.max_item_bytes().is_some_and(|bytes| bytes <= ENTRY_BYTES) {
            let reason = format!("no result fits: {ENTRY_BYTES} bytes go to what is around it, so allow more");
            return Err(ConfigError::invalid(LAYER, "with_max_result_bytes", reason));
        }
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        let settings = &self.settings;
        let written = settings.writes.values().flat_map(|writes| &writes.tools);
        let named = settings.ttls.keys().chain(settings.scopes.keys()).chain(settings.tags.keys());
        let named = named.chain(settings.writes.keys()).chain(written);
        check_names(LAYER, named.map(String::as_str), &tools)?;
        let is_cached = |tool: &&Tool| self.selection.includes(tool, RULE) && settings.writes.contains_key(&tool.name);
        if let Some(tool) = tools.iter().find(is_cached) {
            let reason = format!("`{}` is cached, so a call may not write: leave it out with `except`", tool.name);
            return Err(ConfigError::invalid(LAYER, "invalidates", reason));
        }
        let mut bound = Self { plan: Plan::default(), ..self };
        bound.settings_mut().server = inner.server_info().name;
        bound.observe_tools(&tools);
        bound.bound.set(inner.clone(), bound.plan.clone());
        bound.results.start();
        Ok(bound)
    }

    fn observe_tools(&self, tools: &[Tool]) {
        self.plan.learn(tools, |tool| self.decide(tool));
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        match self.plan.get(name) {
            None => Either::Left(inner.call_tool(name, args, ctx)),
            Some(Role::Cached(plan)) => Either::Right(Either::Left(self.cached(plan, inner, name, args, ctx))),
            Some(Role::Writes(writes)) => Either::Right(Either::Right(self.write(writes, inner, name, args, ctx))),
        }
    }
}

impl_layer!(CachedTool);

/// A failure, as all who wait for the call get it.
#[derive(Debug, Clone)]
pub(super) struct Failed(pub(super) McpResult<ToolResult>);

impl LoadError for Failed {
    fn timed_out(after: Duration) -> Self {
        Self(Ok(outcome::timed_out(after).to_tool_result()))
    }

    fn lost() -> Self {
        Self(Ok(<McpError as LoadError>::lost().to_tool_result()))
    }

    fn cancelled() -> Self {
        Self(Ok(<McpError as LoadError>::cancelled().to_tool_result()))
    }

    fn allows_stale(&self) -> bool {
        outcome::failure(&self.0).is_some_and(|failure| failure.is_outage())
    }

    fn told_again(mut self, age: Duration) -> Self {
        outcome::note(&mut self.0, outcome::CACHE, Status::of(Source::Hit { age, level: 1 }).to_meta());
        self
    }
}

/// What the store needs around a key and a result: 470 bytes were measured.
const ENTRY_BYTES: u64 = 512;

/// What an entry takes: its key, its result as JSON, and what is around them.
fn entry_bytes(key: &CallKey, result: &ToolResult) -> u64 {
    struct Counted(u64);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(ENTRY_BYTES + key.len() as u64);
    match serde_json::to_writer(&mut counted, result) {
        Ok(()) => counted.0,
        // What cannot be measured is not kept.
        Err(_) => u64::MAX,
    }
}

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
