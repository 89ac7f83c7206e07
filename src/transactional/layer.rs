use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use serde_json::{Value, json};
use sqlx::Pool;
use tower_layer::Layer;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::{Tool, ToolResult};

use super::current::current;
use super::dialect::{Dialect, Fault};
use super::error::{TRANSACTION, TransactionError};
use super::records;
use super::transactor::{Results, Transactor};
use crate::idempotency::{self, CallKey, Idempotency};
use crate::outcome;
use crate::selection::{Hints, Plan, Rule, Selection, naming_selectors};
use crate::{ConfigError, Layered, Middleware, TryLayer};

const LAYER: &str = "TransactionalTool";

/// A transaction does no harm to any tool, so whatever is asked for is done.
const RULE: Rule = Rule { layer: LAYER, is_safe: |_| true, otherwise: "" };

/// How long a caller is told to wait for the first call with its key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often expired records are looked for, in milliseconds.
const SWEEP_EVERY: i64 = 60_000;

/// Runs a tool in a transaction that is committed if the tool succeeds. See the [manual](super).
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct TransactionalTool<DB: Dialect> {
    transactor: Transactor<DB>,
    selection: Selection,
    is_selected: bool,
    idempotency: Option<Arc<Idempotency>>,
    server: Arc<str>,
    plan: Plan<ToolPlan>,
    swept_at: Arc<AtomicI64>,
}

/// What the layer keeps for a tool that it acts on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ToolPlan {
    read_only: bool,
}

impl<DB: Dialect> TransactionalTool<DB> {
    /// Transactions for the tools that you name: on connections of a pool, or as a [`Transactor`] has them.
    pub fn new(transactor: impl Into<Transactor<DB>>) -> Self {
        Self {
            transactor: transactor.into(),
            selection: Selection::new(),
            is_selected: false,
            idempotency: None,
            server: "".into(),
            plan: Plan::default(),
            swept_at: Arc::default(),
        }
    }

    naming_selectors!();

    /// Makes a call with a key take effect once: its answer is recorded in the same transaction.
    ///
    /// The table must be there: see [`ensure_schema`](Self::ensure_schema).
    pub fn with_idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = Some(Arc::new(idempotency));
        self
    }

    /// Makes the [table](super::IDEMPOTENCY_SCHEMA) of idempotency records where there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn ensure_schema(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
        let mut connection = pool.acquire().await?;
        DB::ensure_schema(&mut connection).await
    }
}

/// The answer to a call, and how the transaction is to end with it.
struct Answer {
    result: McpResult<ToolResult>,
    end: End,
}

enum End {
    /// As the result says.
    ByResult,
    /// Committed: the answer is recorded, and that proves that it can be.
    Recorded,
    /// Nothing was done in it.
    Nothing,
}

impl<DB: Dialect> TransactionalTool<DB> {
    async fn transact<H: McpHandler>(
        &self,
        plan: ToolPlan,
        inner: &H,
        name: &str,
        mut args: Value,
        ctx: &RequestContext,
    ) -> McpResult<ToolResult> {
        // What changes nothing needs no key, and its transaction could keep none.
        let key = match self.idempotency.as_ref().filter(|_| !plan.read_only) {
            None => None,
            Some(idempotency) => match idempotency.key(&self.server, name, &mut args, ctx) {
                Ok(key) => key,
                Err(refused) => return Ok(refused.to_tool_result()),
            },
        };
        let keyed = self.idempotency.as_deref().zip(key.as_ref());
        let is_claiming = AtomicBool::new(false);
        let answer = self
            .transactor
            .drive(plan.read_only, ctx, &ByOutcome, || {
                let (args, is_claiming) = (args.clone(), &is_claiming);
                async move {
                    match keyed {
                        None => Answer { result: inner.call_tool(name, args, ctx).await, end: End::ByResult },
                        Some((idempotency, key)) => self
                            .once(idempotency, key, is_claiming, || inner.call_tool(name, args, ctx))
                            .await
                            .unwrap_or_else(|error| ByOutcome.failed(error)),
                    }
                }
            })
            .await;
        let mut result = answer.result;
        if let Some((idempotency, key)) = keyed {
            self.sweep_now_and_then();
            // The time was over while it waited for the first call with its key.
            if is_claiming.into_inner() && !ctx.is_cancelled() {
                result = Ok(key.in_progress(RETRY_AFTER).to_tool_result());
            }
            if idempotency.records_failures() && matches!(answer.end, End::ByResult) {
                result = self.record_failure(idempotency, key, result).await;
            }
        }
        result
    }

    /// Runs the call unless its key has an answer. The claim, what the call does and the record commit together.
    async fn once<F: Future<Output = McpResult<ToolResult>>>(
        &self,
        idempotency: &Idempotency,
        key: &CallKey,
        is_claiming: &AtomicBool,
        call: impl FnOnce() -> F,
    ) -> Result<Answer, TransactionError> {
        let mut connection = current::<DB>().await?;
        is_claiming.store(true, Ordering::Relaxed);
        let claimed = DB::claim(&mut connection, key, None, idempotency.ttl()).await;
        is_claiming.store(false, Ordering::Relaxed);
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => match TransactionError::from(error) {
                TransactionError::Statement { fault: Fault::Timeout, .. } => {
                    let result = Ok(key.in_progress(RETRY_AFTER).to_tool_result());
                    return Ok(Answer { result, end: End::Nothing });
                }
                other => return Err(other),
            },
        };
        if !claimed {
            let record = DB::find(&mut connection, &key.id).await?;
            let result = match record {
                Some(record) if record.fingerprint != key.fingerprint => Ok(key.refused().to_tool_result()),
                Some(record) => match record.result.as_deref().and_then(idempotency::from_record) {
                    Some(result) => result,
                    None => Ok(key.in_progress(RETRY_AFTER).to_tool_result()),
                },
                None => Ok(key.in_progress(RETRY_AFTER).to_tool_result()),
            };
            return Ok(Answer { result, end: End::Nothing });
        }
        drop(connection);
        let result = call().await;
        if outcome::failure(&result).is_some() {
            return Ok(Answer { result, end: End::ByResult });
        }
        let Some(record) = idempotency::to_record(&result) else {
            return Err(TransactionError::RolledBack);
        };
        let mut connection = current::<DB>().await?;
        match DB::complete(&mut connection, &key.id, None, &record).await? {
            true => Ok(Answer { result, end: End::Recorded }),
            // The tool has deleted the record, or ended the transaction by itself.
            false => Err(TransactionError::RolledBack),
        }
    }

    /// Remembers a failure in a transaction of its own, since what failed was rolled back, and its claim with it.
    async fn record_failure(
        &self,
        idempotency: &Idempotency,
        key: &CallKey,
        result: McpResult<ToolResult>,
    ) -> McpResult<ToolResult> {
        let Some(record) = idempotency::to_record(&result).filter(|_| outcome::failure(&result).is_some()) else {
            return result;
        };
        let recorded: Result<(), TransactionError> = self
            .transactor
            .run(&(), || async {
                let mut connection = current::<DB>().await?;
                if DB::claim(&mut connection, key, None, idempotency.ttl()).await? {
                    DB::complete(&mut connection, &key.id, None, &record).await?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = recorded {
            tracing::warn!(%error, tool = key.tool, "a failure could not be recorded");
        }
        result
    }

    /// Deletes expired records behind the scenes, a batch at a time.
    fn sweep_now_and_then(&self) {
        let now = records::now();
        let last = self.swept_at.load(Ordering::Relaxed);
        if now - last < SWEEP_EVERY
            || self.swept_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let pool = self.transactor.pool().clone();
        tokio::spawn(async move {
            let swept = async {
                let mut connection = pool.acquire().await?;
                while DB::sweep(&mut connection).await? > 0 {}
                Ok::<_, sqlx::Error>(())
            };
            if let Err(error) = swept.await {
                tracing::warn!(%error, "expired idempotency records were not deleted");
            }
        });
    }

    fn decide(&self, tool: &Tool) -> Option<ToolPlan> {
        self.selection.includes(tool, RULE).then(|| ToolPlan { read_only: Hints::of(tool).read_only })
    }

    /// Tells of the key in the schemas of the tools that take one: a read-only tool needs none.
    fn advertise(&self, mut tools: Vec<Tool>) -> Vec<Tool> {
        if let Some(idempotency) = &self.idempotency {
            for tool in &mut tools {
                if self.decide(tool).is_some_and(|plan| !plan.read_only) {
                    idempotency.advertise(tool);
                }
            }
        }
        tools
    }
}

/// Commits what succeeded in the eyes of a caller.
struct ByOutcome;

impl Results<Answer> for ByOutcome {
    fn is_success(&self, answer: &Answer) -> bool {
        match answer.end {
            End::ByResult => outcome::failure(&answer.result).is_none(),
            End::Recorded => true,
            End::Nothing => false,
        }
    }

    fn failed(&self, error: TransactionError) -> Answer {
        Answer { result: Ok(McpError::from(error).to_tool_result()), end: End::Nothing }
    }

    fn note_attempts(&self, answer: &mut Answer, attempts: u32) {
        outcome::note(&mut answer.result, TRANSACTION, json!({ "attempts": attempts }));
    }

    fn is_proved(&self, answer: &Answer) -> bool {
        matches!(answer.end, End::Recorded)
    }
}

impl<DB: Dialect> Middleware for TransactionalTool<DB> {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.transactor.check()?;
        if !self.is_selected {
            let reason = "no tool runs in a transaction yet: name them with `only`, or use `when` or `every_write`";
            return Err(ConfigError::invalid(LAYER, "new", reason));
        }
        let tools = inner.list_tools();
        self.selection.check(&tools, RULE)?;
        if let Some(idempotency) = &self.idempotency {
            if self.transactor.is_read_only() {
                let reason = "a read-only transaction cannot record an answer: leave out one of the two";
                return Err(ConfigError::invalid(LAYER, "with_idempotency", reason));
            }
            let keys = |tool: &&Tool| self.decide(tool).is_some_and(|plan| !plan.read_only);
            let keyed: Vec<_> = tools.iter().filter(keys).cloned().collect();
            idempotency.check(LAYER, &keyed)?;
        }
        let bound = Self { server: inner.server_info().name.into(), plan: Plan::default(), ..self };
        bound.observe_tools(&tools);
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
            Some(plan) => Either::Right(self.transact(plan, inner, name, args, ctx)),
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
            idempotency: self.idempotency.clone(),
            server: Arc::clone(&self.server),
            plan: self.plan.clone(),
            swept_at: Arc::clone(&self.swept_at),
        }
    }
}

impl<DB: Dialect> fmt::Debug for TransactionalTool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalTool")
            .field("transactor", &self.transactor)
            .field("selection", &self.selection)
            .field("idempotency", &self.idempotency)
            .finish_non_exhaustive()
    }
}
