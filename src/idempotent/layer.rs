use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::backend::{Store, StoreLedger};
use super::claims::Claims;
use crate::clock::is_too_short;
use crate::idempotency_keys::{Bound, Handle, Idempotency, KeyCounts, KeySpace};
use crate::middleware::impl_layer;
use crate::outcome::Failure;
use crate::selection::{Known, Plan, Rule, Selection, check_names, look_up, naming_selectors};
use crate::{ConfigError, Identity, Middleware};

const LAYER: &str = "IdempotentTool";

/// A key does no harm to any tool, so whatever is asked for is done.
const RULE: Rule = Rule::every_tool(LAYER);

/// Makes a call with a key take effect once, wherever the effect is. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct IdempotentTool {
    pub(super) claims: Claims,
    selection: Selection,
    is_selected: bool,
    allows_unlisted: bool,
    pub(super) idempotency: Arc<Idempotency>,
    pub(super) not_executed: Option<Predicate>,
    pub(super) tells: bool,
    pub(super) space: Arc<KeySpace>,
    plan: Plan<Arc<KeyCounts>>,
    handle: Handle,
}

pub(super) type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;

impl IdempotentTool {
    /// Keys for the tools that you name, with claims and answers in `store`. See the [defaults](super#defaults).
    pub fn new(store: impl Store) -> Self {
        let claims = Claims {
            store: Arc::new(store),
            lease: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            takes_over: false,
            idempotency: Arc::default(),
            warnings: Arc::default(),
        };
        Self {
            claims,
            selection: Selection::new(),
            is_selected: false,
            allows_unlisted: false,
            idempotency: Arc::default(),
            not_executed: None,
            tells: true,
            space: Arc::default(),
            plan: Plan::default(),
            handle: Handle::default(),
        }
    }

    naming_selectors!();

    /// Lets tools be called that no listing has, for a server that leaves tools out of its listings on purpose.
    ///
    /// Of such a tool only the name is known: it counts as one that is not read-only. Settings may then name tools that are not listed
    /// when the server starts, such as those that only some callers see.
    pub fn allow_unlisted_tools(mut self) -> Self {
        self.allows_unlisted = true;
        self
    }

    /// Sets where keys are found, how long answers are remembered, and which tools need a key.
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = Arc::new(idempotency);
        self.claims.idempotency = Arc::clone(&self.idempotency);
        self
    }

    /// Keeps keys apart from those of servers in another namespace on the same store, such as `staging` and `production`. The
    /// server's name keeps them apart as well. Replicas share keys only if they have the same namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.space).namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are told apart, each of whom has keys of their own. Give all layers the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.space).identity = identity;
        self
    }

    /// Sets how long a claim counts as running after its owner was last heard of. While a tool runs, its claim is renewed three
    /// times as often.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.claims.lease = lease;
        self
    }

    /// Sets how long a call waits for another one with its key that is running. With no time at all it is told at once that
    /// there is one.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.claims.wait = wait;
        self
    }

    /// Bounds each step that the store takes.
    pub fn with_store_timeout(mut self, timeout: Duration) -> Self {
        self.claims.timeout = timeout;
        self
    }

    /// Replaces the judgement which failures prove that the call [took no effect](Failure::is_not_executed), so that the same key
    /// may try again.
    ///
    /// Wrong on the safe side, a key is stuck until somebody [resolves](crate::idempotency_keys::Handle::resolve) it; wrong on the
    /// other, the effect happens twice.
    pub fn with_not_executed(mut self, not_executed: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.not_executed = Some(Arc::new(not_executed));
        self
    }

    /// Makes an ambiguous call again, although it may have taken effect.
    ///
    /// For tools that may be called twice, and use keys to spare the work. A process that stops for longer than the lease and
    /// goes on makes its call at the same time as the one that took over.
    pub fn run_again_when_ambiguous(mut self) -> Self {
        self.claims.takes_over = true;
        self
    }

    /// Does not say in the `_meta` of an answer that it was recorded before. That a call is ambiguous, or was not recorded, is still
    /// told.
    pub fn without_meta(mut self) -> Self {
        self.tells = false;
        self
    }

    /// Returns what lists and resolves ambiguous calls, also after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

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
            Some(plan) => Box::pin(self.once(plan, inner, name, args, ctx)).await,
            None => Box::pin(inner.call_tool(name, args, ctx)).await,
        }
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<KeyCounts>> {
        let is_included = self.selection.includes(tool, RULE);
        is_included.then(|| self.idempotency.counts(LAYER, tool).map(Arc::new)).flatten()
    }

    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        for tool in tools.iter_mut().filter(|tool| self.selection.includes(tool, RULE)) {
            self.idempotency.advertise(tool);
        }
        tools
    }
}

impl Middleware for IdempotentTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        if !self.is_selected {
            let reason = "no tool takes a key yet: name them with `only`, or use `when` or `every_write`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        for (setting, duration) in [("with_lease", self.claims.lease), ("with_store_timeout", self.claims.timeout)] {
            if is_too_short(duration) {
                return Err(ConfigError::invalid(LAYER, setting, "it must be at least a millisecond: make it longer"));
            }
        }
        self.space.check(LAYER)?;
        let tools = inner.list_tools();
        if !self.allows_unlisted {
            let named = self.selection.named().chain(self.idempotency.named());
            check_names(LAYER, named, &tools)?;
        }
        let keyed: Vec<_> = tools.iter().filter(|tool| self.selection.includes(tool, RULE)).cloned().collect();
        self.idempotency.check(LAYER, &keyed)?;
        let named = self.selection.named().chain(self.idempotency.named());
        let plan = Plan::new(&self.space.identity, named, self.selection.unknown());
        let mut bound = Self { plan, ..self };
        Arc::make_mut(&mut bound.space).server = inner.server_info().name;
        bound.observe_tools(&tools, None);
        let plan = bound.plan.clone();
        bound.handle.bind(Bound {
            space: Arc::clone(&bound.space),
            idempotency: Arc::clone(&bound.idempotency),
            acts_on: Box::new(move |tool| plan.of_anybody(tool).is_some()),
            ledger: Arc::new(StoreLedger(Arc::clone(&bound.claims.store))),
            timeout: bound.claims.timeout,
        });
        Ok(bound)
    }

    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        self.plan.learn(tools, ctx, |tool| self.decide(tool));
    }

    fn forget_definitions(&self) {
        self.plan.forget();
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
            Known::Decided(Some(plan)) => Either::Right(self.once(plan, inner, name, args, ctx).boxed()),
            Known::Unknown if self.selection.leaves_out(name) => Either::Left(inner.call_tool(name, args, ctx)),
            Known::Unknown => Either::Right(self.call_unknown(inner, name, args, ctx).boxed()),
        }
    }
}

impl_layer!(IdempotentTool);

impl fmt::Debug for IdempotentTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentTool")
            .field("selection", &self.selection)
            .field("idempotency", &self.idempotency)
            .field("space", &self.space)
            .field("lease", &self.claims.lease)
            .field("wait", &self.claims.wait)
            .field("store_timeout", &self.claims.timeout)
            .field("takes_over", &self.claims.takes_over)
            .finish_non_exhaustive()
    }
}
