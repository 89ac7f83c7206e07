use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::Either;
use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::claims::{Claims, Ended, Found, Held};
use super::definite;
use super::handle::{Bound, Handle};
use super::store::{Store, StoreError};
use crate::idempotency::{self, CallKey, IDEMPOTENCY, Idempotency};
use crate::middleware::impl_layer;
use crate::outcome::{self, ErrorKind, Failure};
use crate::selection::{Plan, Rule, Selection, naming_selectors};
use crate::telemetry::Counter;
use crate::{ConfigError, Middleware};

const LAYER: &str = "IdempotentTool";

/// A key does no harm to any tool, so whatever is asked for is done.
const RULE: Rule = Rule { layer: LAYER, is_safe: |_| true, otherwise: "" };

/// How long a caller is told to wait for the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes a call with a key take effect once, wherever the effect is. See the [manual](super).
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct IdempotentTool {
    claims: Claims,
    selection: Selection,
    is_selected: bool,
    idempotency: Arc<Idempotency>,
    definite: Option<Predicate>,
    server: Arc<str>,
    plan: Plan<Arc<ToolPlan>>,
    bound: Arc<ArcSwapOption<Bound>>,
}

type Predicate = Arc<dyn Fn(&Failure<'_>) -> bool + Send + Sync>;

impl IdempotentTool {
    /// Keys for the tools that you name, with claims and answers in `store`. See the [defaults](super#defaults).
    pub fn new(store: impl Store) -> Self {
        let claims = Claims {
            store: Arc::new(store),
            lease: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            takes_over: false,
        };
        Self {
            claims,
            selection: Selection::new(),
            is_selected: false,
            idempotency: Arc::default(),
            definite: None,
            server: "".into(),
            plan: Plan::default(),
            bound: Arc::default(),
        }
    }

    naming_selectors!();

    /// Sets where keys are found, how long answers are remembered, and which tools need a key.
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = Arc::new(idempotency);
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

    /// Replaces the judgement which failures prove that nothing was done, so that the same key may try again.
    ///
    /// Wrong on the safe side, a key is stuck until somebody [resolves](Handle::resolve) it; wrong on the other, the effect
    /// happens twice.
    pub fn with_definite(mut self, definite: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.definite = Some(Arc::new(definite));
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

    /// Returns what resolves ambiguous calls, also after the layer has moved into a stack.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { bound: Arc::clone(&self.bound) }
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selection.includes(tool, RULE).then(|| Arc::new(ToolPlan::new(&tool.name)))
    }

    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        for tool in tools.iter_mut().filter(|tool| self.selection.includes(tool, RULE)) {
            self.idempotency.advertise(tool);
        }
        tools
    }

    async fn once<H: McpHandler>(
        &self,
        plan: Arc<ToolPlan>,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        let call = match self.idempotency.key(&self.server, name, &mut args, ctx) {
            Ok(Some(call)) => Arc::new(call),
            Ok(None) => return inner.call_tool(name, args, ctx).await,
            Err(refused) => return plan.answer(Told::Refused, &refused),
        };
        let held = match self.claims.claim(&call, ctx).await {
            Ok(Found::Nothing(held)) => held,
            Ok(found) => return self.told(&plan, &call, found),
            Err(error) => return closed(&plan, name, &error),
        };
        self.run(&plan, &call.key, held, ctx, || inner.call_tool(name, args, ctx)).await
    }

    /// Makes the call, and sees to it that what became of it is known. Dropped while it runs, or unwound, it is ambiguous.
    async fn run<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        plan: &ToolPlan,
        key: &str,
        mut held: Held,
        ctx: &RequestContext,
        call: impl FnOnce() -> F,
    ) -> McpResult<ToolResult> {
        if ctx.is_cancelled() {
            held.release().await;
            return plan.answer(Told::Cancelled, &cancelled());
        }
        held.begin();
        let mut result = call().await;
        let is_definite = outcome::failure(&result).map(|failure| match &self.definite {
            Some(definite) => definite(&failure),
            None => definite::proves_that_nothing_was_done(&failure, &result),
        });
        match is_definite {
            Some(false) => {
                plan.count(Told::Ambiguous);
                held.abandon().await;
                outcome::note(&mut result, IDEMPOTENCY, "ambiguous");
                tracing::warn!(tool = plan.tool, key, "a call failed, and it is not known what it did");
            }
            Some(true) if !self.idempotency.records_failures() => {
                plan.count(Told::Released);
                held.release().await;
            }
            None | Some(true) => {
                let ended = match idempotency::to_record(&result) {
                    Some(record) => held.complete(record, self.idempotency.ttl()).await,
                    None => {
                        held.abandon().await;
                        Ended::Unknown
                    }
                };
                match ended {
                    Ended::Yes => plan.count(Told::Recorded),
                    Ended::Lost | Ended::Unknown => {
                        plan.count(Told::NotRecorded);
                        tracing::warn!(
                            tool = plan.tool,
                            key,
                            ?ended,
                            "the answer to a call with a key was not recorded"
                        );
                        outcome::note(&mut result, IDEMPOTENCY, "not_recorded");
                    }
                }
            }
        }
        result
    }

    /// The answer to a call that is not made.
    fn told(&self, plan: &ToolPlan, call: &CallKey, found: Found) -> McpResult<ToolResult> {
        match found {
            Found::Other => plan.answer(Told::Refused, &call.refused()),
            Found::Running => plan.answer(Told::InProgress, &call.in_progress(RETRY_AFTER)),
            Found::Cancelled => plan.answer(Told::Cancelled, &cancelled()),
            Found::Answer(record) => match idempotency::from_record(&record) {
                Some(result) => {
                    plan.count(Told::Replayed);
                    result
                }
                None => closed(plan, &plan.tool, &StoreError::unavailable("the record of an answer is unreadable")),
            },
            Found::Ambiguous | Found::Nothing(_) => {
                tracing::warn!(tool = call.tool, key = call.key, "the outcome of a call is not known: resolve it");
                plan.answer(Told::Ambiguous, &ambiguous(call))
            }
        }
    }
}

/// The answer while the store cannot be trusted. Whether a call was made cannot be known then, so none is made.
fn closed(plan: &ToolPlan, tool: &str, error: &StoreError) -> McpResult<ToolResult> {
    tracing::warn!(%error, tool, "a call with a key was not made");
    match error {
        StoreError::Full => plan.answer(
            Told::Overloaded,
            &McpError::new(
                ErrorKind::ServerOverloaded,
                "Too many calls with idempotency keys are open; nothing was done",
            ),
        ),
        StoreError::Unavailable(_) => plan.answer(
            Told::Unavailable,
            &McpError::unavailable("The record of idempotency keys is not available; this call did nothing"),
        ),
    }
}

fn ambiguous(call: &CallKey) -> McpError {
    McpError::internal(format!(
        "An earlier call with the idempotency key `{}` ended without an answer: it may or may not have taken effect. It is not \
         made again. Find out whether it took effect before you call with a new key",
        call.key
    ))
    .with_data(json!({ IDEMPOTENCY: "ambiguous" }))
}

fn cancelled() -> McpError {
    McpError::cancelled("The call was cancelled before it began; nothing was done by it")
}

impl Middleware for IdempotentTool {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        if !self.is_selected {
            let reason = "no tool takes a key yet: name them with `only`, or use `when` or `every_write`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        for (setting, duration) in [("with_lease", self.claims.lease), ("with_store_timeout", self.claims.timeout)] {
            if duration.is_zero() {
                return Err(ConfigError::invalid(LAYER, setting, "nothing is done in no time: make it longer"));
            }
        }
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        let keyed: Vec<_> = tools.iter().filter(|tool| self.selection.includes(tool, RULE)).cloned().collect();
        self.idempotency.check(LAYER, &keyed)?;
        let bound = Self { server: inner.server_info().name.into(), plan: Plan::default(), ..self };
        bound.observe_tools(&tools);
        bound.bound.store(Some(Arc::new(Bound {
            server: Arc::clone(&bound.server),
            claims: bound.claims.clone(),
            idempotency: Arc::clone(&bound.idempotency),
            plan: bound.plan.clone(),
        })));
        Ok(bound)
    }

    fn observe_tools(&self, tools: &[Tool]) {
        self.plan.learn(tools, |tool| self.decide(tool));
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
        match self.plan.get(name) {
            None => Either::Left(inner.call_tool(name, args, ctx)),
            Some(plan) => Either::Right(self.once(plan, inner, name, args, ctx)),
        }
    }
}

impl_layer!(IdempotentTool);

/// What the layer keeps for a tool that it acts on.
#[derive(Debug)]
pub(super) struct ToolPlan {
    tool: String,
    counters: [Counter; Told::ALL.len()],
}

/// What became of a call with a key.
#[derive(Debug, Clone, Copy)]
enum Told {
    Recorded,
    Replayed,
    Released,
    Ambiguous,
    NotRecorded,
    InProgress,
    Refused,
    Cancelled,
    Unavailable,
    Overloaded,
}

impl Told {
    /// In the order of the variants.
    const ALL: [&'static str; 10] = [
        "recorded",
        "replayed",
        "released",
        "ambiguous",
        "not_recorded",
        "in_progress",
        "refused",
        "cancelled",
        "unavailable",
        "overloaded",
    ];
}

impl ToolPlan {
    fn new(tool: &str) -> Self {
        let counters = Told::ALL
            .map(|outcome| Counter::new("mcp_patterns_idempotency_total", &[("tool", tool), ("outcome", outcome)]));
        Self { tool: tool.to_owned(), counters }
    }

    fn count(&self, told: Told) {
        tracing::debug!(tool = self.tool, idempotency = Told::ALL[told as usize]);
        self.counters[told as usize].increment();
    }

    fn answer(&self, told: Told, error: &McpError) -> McpResult<ToolResult> {
        self.count(told);
        Ok(error.to_tool_result())
    }
}

/// The counters follow from the name.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        self.tool == other.tool
    }
}

impl fmt::Debug for IdempotentTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentTool")
            .field("selection", &self.selection)
            .field("idempotency", &self.idempotency)
            .field("lease", &self.claims.lease)
            .field("wait", &self.claims.wait)
            .field("store_timeout", &self.claims.timeout)
            .field("takes_over", &self.claims.takes_over)
            .finish_non_exhaustive()
    }
}
