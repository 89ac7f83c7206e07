use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use serde_json::Value;
use sqlx::Pool;
use tower_layer::Layer;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::answer::{Answer, ByOutcome, Wanted};
use super::dialect::Dialect;
use super::keyed_call::{Keys, Once};
use super::metrics::Ends;
use super::records::{self, EXPIRED};
use super::transactor::Transactor;
use crate::connections::{Connections, in_time};
use crate::idempotency_keys::{
    AmbiguousCalls, Bound, Handle, Idempotency, KeyCounts, KeySpace, Ledger, Page, Resolved, Told,
};
use crate::questions::Questions;
use crate::selection::{Hints, Known, Plan, Rule, Selection, check_names, look_up, naming_selectors};
use crate::sweeper::Sweeper;
use crate::{ConfigError, Identity, Layered, Middleware, TryLayer};

const LAYER: &str = "TransactionalTool";

/// A transaction does no harm to any tool, so whatever is asked for is done.
const RULE: Rule = Rule::every_tool(LAYER);

/// Runs a tool in a transaction that is committed if the tool succeeds. See the [manual](super).
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct TransactionalTool<DB: Dialect> {
    transactor: Transactor<DB>,
    selection: Selection,
    is_selected: bool,
    allows_unlisted: bool,
    idempotency: Option<Arc<Idempotency>>,
    wait: Duration,
    tells: bool,
    space: Arc<KeySpace>,
    plan: Plan<Arc<ToolPlan>>,
    keys: Arc<Keys>,
    handle: Handle,
}

/// What the layer keeps for a tool that it acts on.
#[derive(Debug)]
struct ToolPlan {
    read_only: bool,
    ends: Ends,
    /// For a tool that takes keys.
    keys: Option<KeyCounts>,
    /// Whether its author was told that it asks its client.
    is_told_of_questions: AtomicBool,
}

/// The counters follow from the name, under which the plan is kept.
impl PartialEq for ToolPlan {
    fn eq(&self, other: &Self) -> bool {
        (self.read_only, &self.keys) == (other.read_only, &other.keys)
    }
}

impl<DB: Dialect> TransactionalTool<DB> {
    /// Transactions for the tools that you name: on connections of a pool, or as a [`Transactor`] has them.
    pub fn new(transactor: impl Into<Transactor<DB>>) -> Self {
        Self {
            transactor: transactor.into(),
            selection: Selection::new(),
            is_selected: false,
            allows_unlisted: false,
            idempotency: None,
            wait: Duration::from_secs(5),
            tells: true,
            space: Arc::default(),
            plan: Plan::default(),
            keys: Arc::default(),
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

    /// Makes a call with a key take effect once: its answer is recorded in the same transaction.
    ///
    /// The table must be there: see [`ensure_schema`](Self::ensure_schema).
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = Some(Arc::new(idempotency));
        self
    }

    /// Keeps [keys](Self::with_idempotency) apart from those of servers in another namespace on the same table, such as `staging` and `production`. The
    /// server's name keeps them apart as well. Replicas share keys only if they have the same namespace.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.space).namespace = Some(namespace.into());
        self
    }

    /// Sets how callers are told apart, each of whom has [keys](Self::with_idempotency) of their own. Give all layers
    /// the same [`Identity`].
    pub fn with_identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.space).identity = identity;
        self
    }

    /// Sets how long a call waits for another one with its key that is running in this process. With no time at all it is told at
    /// once that there is one. One that runs in another process is waited for in the database, for as long as the
    /// [transaction may take](Transactor::with_timeout).
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Says nothing in the `_meta` of an answer: neither that it took several transactions, nor that it was recorded before. Why a
    /// call failed is still told.
    pub fn without_meta(mut self) -> Self {
        self.tells = false;
        self
    }

    /// Returns what lists and resolves ambiguous calls, also after the layer has moved into a stack. Here a call is ambiguous if its
    /// tool has [ended the transaction](super::TransactionError::EndedEarly) by itself.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Makes the [table](super::IDEMPOTENCY_SCHEMA) of idempotency records where there is none.
    ///
    /// # Errors
    ///
    /// Those of the database, and that it did not answer within a minute.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        let mut connection = Connections::of(pool).acquire().await?;
        in_time(DB::ensure_schema(&mut connection)).await
    }

    /// Deletes the expired records, a batch at a time, and returns how many there were. Those that a call holds stay for the next time;
    /// on SQLite that is all of them, while somebody writes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sweep(pool: &Pool<DB>) -> Result<u64, sqlx::Error> {
        Sweeper::new(&EXPIRED).sweep(pool).await
    }
}

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
        if questions.is_some_and(|questions| questions.were_asked())
            && !plan.is_told_of_questions.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                tool = name,
                "a tool asks its client inside a transaction: leave the tool out, ask first, and write with a Transactor"
            );
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
        // What changes nothing needs no key, and its transaction could keep none.
        if let Some((idempotency, counts)) = self.idempotency.as_deref().zip(plan.keys.as_ref()) {
            match idempotency.key(&self.space, name, &counts.arguments, &mut args, ctx) {
                Err(refused) => return counts.answer(Told::Refused, &refused),
                Ok(Some(key)) => {
                    let once = Once {
                        transactor: &self.transactor,
                        keys: &self.keys,
                        wait: self.wait,
                        idempotency,
                        key: &key,
                        counts,
                        ends: &plan.ends,
                        tells: self.tells,
                        questions,
                    };
                    return once.run(ctx, || inner.call_tool(name, args.clone(), ctx)).await;
                }
                Ok(None) => {}
            }
        }
        let results = ByOutcome { ends: &plan.ends, key: None, tells: self.tells, questions };
        let answer = self.transactor.drive(plan.read_only, ctx, &results, || {
            // Not an `async` block: that would store the call twice.
            inner.call_tool(name, args.clone(), ctx).map(|result| Answer { result, end: Wanted::ByResult })
        });
        answer.await.result
    }

    /// Whether a call of the tool may have a key.
    fn takes_key(&self, tool: &Tool) -> bool {
        self.idempotency.is_some() && self.selection.includes(tool, RULE) && !Hints::of(tool).read_only
    }

    fn keys_of(&self, tool: &Tool) -> Option<KeyCounts> {
        let idempotency = self.idempotency.as_ref().filter(|_| self.takes_key(tool))?;
        idempotency.counts(LAYER, tool)
    }

    fn decide(&self, tool: &Tool) -> Option<Arc<ToolPlan>> {
        self.selection.includes(tool, RULE).then(|| {
            Arc::new(ToolPlan {
                read_only: Hints::of(tool).read_only,
                ends: Ends::new(&tool.name),
                keys: self.keys_of(tool),
                is_told_of_questions: AtomicBool::new(false),
            })
        })
    }

    /// Tells of the key in the schemas of the tools that take one: a read-only tool needs none.
    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        if let Some(idempotency) = &self.idempotency {
            for tool in tools.iter_mut().filter(|tool| self.takes_key(tool)) {
                idempotency.advertise(tool);
            }
        }
        tools
    }
}

/// How long a list of ambiguous calls, or the end of one, may take.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The table of records as a [`Handle`] sees it.
struct RecordLedger<DB: Dialect>(Pool<DB>);

impl<DB: Dialect> Ledger for RecordLedger<DB> {
    fn list<'a>(&'a self, page: Page<'a>) -> BoxFuture<'a, Result<AmbiguousCalls, Box<dyn Error + Send + Sync>>> {
        async move { Ok(records::list(&self.0, page).await?) }.boxed()
    }

    fn resolve<'a>(
        &'a self,
        id: &'a str,
        record: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Resolved, Box<dyn Error + Send + Sync>>> {
        async move { Ok(records::resolve(&self.0, id, record, ttl).await?) }.boxed()
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
        let tools = inner.list_tools();
        let keyed = self.idempotency.iter().flat_map(|idempotency| idempotency.named());
        let named: Vec<_> = keyed.chain(self.selection.named()).collect();
        if !self.allows_unlisted {
            check_names(LAYER, named.iter().copied(), &tools)?;
        }
        let plan = Plan::new(&self.space.identity, named, self.selection.unknown());
        if let Some(idempotency) = &self.idempotency {
            if self.transactor.begin.read_only {
                let reason = "a read-only transaction cannot record an answer: leave out one of the two";
                return Err(ConfigError::invalid(LAYER, "with_idempotency", reason));
            }
            let keyed: Vec<_> = tools.iter().filter(|tool| self.takes_key(tool)).cloned().collect();
            idempotency.check(LAYER, &keyed)?;
        }
        let mut bound = Self { plan, ..self };
        Arc::make_mut(&mut bound.space).server = inner.server_info().name;
        bound.observe_tools(&tools, None);
        if let Some(idempotency) = &bound.idempotency {
            let plan = bound.plan.clone();
            bound.handle.bind(Bound {
                space: Arc::clone(&bound.space),
                idempotency: Arc::clone(idempotency),
                acts_on: Box::new(move |tool| plan.of_anybody(tool).is_some_and(|plan| plan.keys.is_some())),
                ledger: Arc::new(RecordLedger(bound.transactor.pool.clone())),
                timeout: LEDGER_TIMEOUT,
            });
        }
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

impl<DB: Dialect> Clone for TransactionalTool<DB> {
    fn clone(&self) -> Self {
        Self {
            transactor: self.transactor.clone(),
            selection: self.selection.clone(),
            is_selected: self.is_selected,
            allows_unlisted: self.allows_unlisted,
            idempotency: self.idempotency.clone(),
            wait: self.wait,
            tells: self.tells,
            space: Arc::clone(&self.space),
            plan: self.plan.clone(),
            keys: Arc::clone(&self.keys),
            handle: self.handle.clone(),
        }
    }
}

impl<DB: Dialect> fmt::Debug for TransactionalTool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalTool")
            .field("transactor", &self.transactor)
            .field("selection", &self.selection)
            .field("idempotency", &self.idempotency)
            .field("space", &self.space)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
