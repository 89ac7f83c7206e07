//! Calls on their way through the batcher, and how they are made where there is no bulk function.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use serde_json::Value;
use tokio::task::JoinSet;
use turbomcp_core::{Cancellable, McpError, McpHandler, McpResult, RequestContext};

use super::batcher::Batcher;
use super::error::BatchError;
use super::execute;
use super::plan::{Answer, Bulk, Call, ToolPlan};
use super::unshared::{Unshared, UnsharedCell};
use crate::canonical::encode;
use crate::outcome;
use crate::scope::Captured;
use crate::shared_work::{SessionOfCall, SharedContext, Work};

/// Calls the handler that the layer is on, which is one of many types.
type Inner = Arc<dyn Fn(String, Value, SharedContext) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A call that is sent through the batcher.
#[derive(Clone)]
pub(super) struct BatchItem {
    pub(super) plan: Arc<ToolPlan>,
    /// On the heap, since it is moved many times.
    pub(super) call: Box<Call>,
    pub(super) group: Vec<u8>,
    /// Without a bulk function: makes the call, and hands an unshared call to the caller.
    pub(super) handler: Option<(Inner, Arc<UnsharedCell>)>,
    /// The scope of the outer layers, for the tool.
    pub(super) scope: Captured,
    pub(super) session: SessionOfCall,
    /// Records whether the tool opens the session of the call, or the bulk function the session of one of its calls, whatever the
    /// result; and whether the bulk function asks a client.
    pub(super) work: Arc<Work>,
}

/// The engine of the layer.
pub(super) type Calls = Batcher<BatchItem, Answer>;

/// Creates a function that calls a tool of `handler`.
pub(super) fn inner(handler: impl McpHandler) -> Inner {
    Arc::new(move |tool, args, shared| {
        let handler = handler.clone();
        Box::pin(async move { handler.call_tool(&tool, args, &shared.ctx).await })
    })
}

type Results = McpResult<Vec<McpResult<Answer>>>;

/// Answers the calls of a batch, which are of one tool.
pub(super) async fn answer(batch: Vec<BatchItem>) -> Results {
    let Some(plan) = batch.first().map(|first| Arc::clone(&first.plan)) else { return Ok(Vec::new()) };
    let Some(bulk) = &plan.bulk else { return Ok(answer_one_by_one(batch).await) };
    let works: Vec<_> = batch.iter().map(|item| Arc::clone(&item.work)).collect();
    let answers = if plan.read_only && batch.len() > 1 {
        // On the heap, so that a batch of one stays small.
        Box::pin(answer_equal_ones_once(bulk, batch)).await
    } else {
        let scope = witnessed(&batch);
        ask(bulk, scope, batch.into_iter().map(|item| *item.call).collect()).await
    };
    if works.iter().any(|work| work.has_asked()) {
        // Only the function knows which of the answers depend on that client.
        works.iter().for_each(|work| work.ask());
    }
    answers
}

/// The scope of a bulk function. Only the function knows which of its answers depend on a session, so all calls record it.
fn witnessed<'a>(calls: impl IntoIterator<Item = &'a BatchItem>) -> Captured {
    calls.into_iter().fold(Captured::default(), |scope, item| scope.with(Arc::clone(&item.work)))
}

async fn ask(bulk: &Bulk, scope: Captured, calls: Vec<Call>) -> Results {
    let results = scope.enter(async { bulk(calls).await }).await?;
    // An error of a tool becomes a result, as in a `#[server]`.
    let answer = |result: McpResult<_>| Ok(Ok(result.unwrap_or_else(|error| error.to_tool_result())));
    Ok(results.into_iter().map(answer).collect())
}

/// Calls the bulk function of a read-only tool with one of several equal calls, and gives its answer to all their callers. Callers in
/// other sessions get it only if the function has opened no session, and other callers only if it has asked no client. Otherwise the
/// function is called again for the calls that it has not seen.
async fn answer_equal_ones_once(bulk: &Bulk, batch: Vec<BatchItem>) -> Results {
    let mut answers: Vec<Option<McpResult<Answer>>> = batch.iter().map(|_| None).collect();
    let tool = batch.first().map(|first| first.call.tool.clone());
    let mut left = equal(batch);
    while !left.is_empty() {
        let round = Arc::<Work>::default();
        let scope = witnessed(left.iter().flatten().map(|(_, item)| item)).with(Arc::clone(&round));
        let (calls, _shared): (Vec<_>, Vec<_>) = left.iter().map(for_all).unzip();
        let results = match ask(bulk, scope, calls).await {
            Ok(results) if results.len() == left.len() => results,
            Ok(results) => {
                execute::log_miscount(tool.as_deref(), left.len(), results.len());
                left.iter().map(|_| Err(<McpError as BatchError>::miscounted())).collect()
            }
            // Earlier answers are kept.
            Err(error) if answers.iter().any(Option::is_some) => left.iter().map(|_| Err(error.clone())).collect(),
            Err(error) => return Err(error),
        };
        let has_asked = left.iter().any(|alike| alike[0].1.work.has_asked());
        let asked = std::mem::take(&mut left);
        for (mut alike, result) in asked.into_iter().zip(results) {
            if has_asked {
                left.extend(alike.split_off(1).into_iter().map(|other| vec![other]));
            }
            let (answered, others) = by_answer(alike, round.has_opened_session());
            for (index, _) in answered {
                answers[index] = Some(result.clone());
            }
            left.extend(by_session(others));
        }
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(<McpError as BatchError>::aborted()))).collect())
}

/// Makes all calls at the same time, and those with the same arguments once.
async fn answer_one_by_one(batch: Vec<BatchItem>) -> Vec<McpResult<Answer>> {
    let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
    let distinct = equal(batch);
    // Dropped with the batch, it stops the calls.
    let mut calls: JoinSet<_> = distinct.into_iter().map(share).collect();
    while let Some(ended) = calls.join_next().await {
        // Only a runtime that shuts down ends a call without an answer.
        let Ok((answer, answered, others)) = ended else { continue };
        for (index, _) in answered {
            answers[index] = Some(answer.clone());
        }
        for others in by_session(others) {
            calls.spawn(share(others));
        }
    }
    answers.into_iter().map(|answer| answer.ok_or_else(<McpError as BatchError>::aborted)).collect()
}

/// Equal calls, with their indices in the batch.
type Alike = Vec<(usize, BatchItem)>;

/// Groups equal calls.
fn equal(batch: Vec<BatchItem>) -> Vec<Alike> {
    let mut distinct: Vec<Alike> = Vec::new();
    let mut indices: HashMap<Vec<u8>, usize, foldhash::fast::RandomState> = HashMap::default();
    for (index, item) in batch.into_iter().enumerate() {
        let mut key = Vec::new();
        encode(&item.call.args, &mut key);
        item.plan.arguments.encode(|name| item.call.of_layers.get(name), &mut key);
        let alike = *indices.entry(key).or_insert(distinct.len());
        match distinct.get_mut(alike) {
            Some(alike) => alike.push((index, item)),
            None => distinct.push(vec![(index, item)]),
        }
    }
    distinct
}

/// Returns one call for all of them: the first one, with a context that they share while they wait.
fn for_all(alike: &Alike) -> (Call, Option<SharedContext>) {
    let mut call = Call::clone(&alike[0].1.call);
    if alike.len() == 1 {
        return (call, None);
    }
    let shared = shared_by(alike, call.ctx);
    call.ctx = shared.ctx.clone();
    (call, Some(shared))
}

/// Turns the context of the first call into one for all of them: no caller alone can cancel it, and all get its notifications.
fn shared_by(alike: &Alike, ctx: RequestContext) -> SharedContext {
    let works: Vec<_> = alike.iter().map(|(_, item)| Arc::clone(&item.work)).collect();
    let first = Arc::clone(&works[0]);
    first.begin_for(&works);
    SharedContext::new(ctx, &first, Arc::new(Shared(works)))
}

/// Separates the calls that get the answer to the first one from the others: if a session was opened, those in another session.
fn by_answer(alike: Alike, opened_session: bool) -> (Alike, Alike) {
    let Some(session) = alike.first().map(|(_, first)| first.session.clone()) else { return (alike, Vec::new()) };
    let mut is_first = true;
    alike
        .into_iter()
        .partition(|(_, item)| std::mem::take(&mut is_first) || !opened_session || item.session.is_that_of(&session))
}

/// Makes one call for all of them, in the scope of the first. If the tool opened its session, the answer is for the callers in that
/// session, and the others are returned. If it asks the client of the first caller, the call is handed to that caller, and each other
/// caller makes its own call.
async fn share(alike: Alike) -> (Answer, Alike, Alike) {
    let (call, inner, scope, work) = match alike.first() {
        Some((_, BatchItem { call, handler: Some((inner, _)), scope, work, .. })) => {
            (call.clone(), Arc::clone(inner), scope.clone(), Arc::clone(work))
        }
        _ => return (Err(<McpError as BatchError>::aborted()), alike, Vec::new()),
    };
    let Call { tool, mut args, ctx, of_layers } = *call;
    of_layers.put_back(&mut args);
    let shared = shared_by(&alike, ctx);
    let scope = alike.iter().fold(scope, |scope, (_, item)| scope.with(Arc::clone(&item.work)));
    let call = scope.enter(AssertUnwindSafe(async move { inner(tool, args, shared).await }).catch_unwind());
    let call = Box::pin(
        call.map(|answer| answer.unwrap_or_else(|_| Ok(<McpError as BatchError>::aborted().to_tool_result()))),
    );
    let ended: Result<Answer, BoxFuture<'static, Answer>> = match select(call, pin!(work.asked())).await {
        // What comes of an unfinished call is for the client of the first caller, too.
        Either::Left((answer, _)) if work.has_asked() || is_unfinished(&answer) => Err(async { answer }.boxed()),
        Either::Left((answer, _)) => Ok(answer),
        Either::Right(((), call)) => Err(call),
    };
    let answer = match ended {
        Ok(answer) => answer,
        Err(call) => {
            let mut call = Some(call);
            for (_, own) in alike.iter().filter_map(|(_, item)| item.handler.as_ref()) {
                own.give(call.take().map_or(Unshared::CallAgain, Unshared::Resume));
            }
            // Each caller has an unshared call now and ignores this.
            return (Err(<McpError as BatchError>::aborted()), alike, Vec::new());
        }
    };
    let (answered, others) = by_answer(alike, work.has_opened_session());
    (answer, answered, others)
}

fn is_unfinished(answer: &Answer) -> bool {
    outcome::failure(answer).is_some_and(|failure| failure.unfinished().is_some())
}

/// Groups the calls by session.
fn by_session(alike: Alike) -> Vec<Alike> {
    let mut sessions: Vec<Alike> = Vec::new();
    for (index, item) in alike {
        let own = sessions.iter_mut().find(|alike| alike[0].1.session.is_that_of(&item.session));
        match own {
            Some(alike) => alike.push((index, item)),
            None => sessions.push(vec![(index, item)]),
        }
    }
    sessions
}

/// The callers of a shared call. It is cancelled when all of them have left.
#[derive(Debug)]
struct Shared(Vec<Arc<Work>>);

impl Cancellable for Shared {
    fn is_cancelled(&self) -> bool {
        self.0.iter().all(|work| work.has_no_starter())
    }
}

impl fmt::Debug for BatchItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchItem").field("call", &self.call).finish_non_exhaustive()
    }
}
