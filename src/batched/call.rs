//! Calls, as bulk functions get them, and how they are made where there is no bulk function.

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
use turbomcp_types::ToolResult;

use super::answers::BatchError;
use super::layer::ToolPlan;
use super::own_call::{Own, OwnCall};
use crate::canonical::encode;
use crate::scope::Captured;
use crate::shared::{SessionOfCall, SharedContext, Work};

/// A call of a tool, as it travels with others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// The tool's name.
    pub tool: String,
    /// The arguments.
    pub args: Value,
    /// Who calls: their identity, session, progress token and metadata. It is cancelled when the caller has left.
    pub ctx: RequestContext,
}

/// What the bulk functions of all tools look like to the layer.
pub(super) type Bulk =
    Arc<dyn Fn(Vec<Call>) -> BoxFuture<'static, McpResult<Vec<McpResult<ToolResult>>>> + Send + Sync>;

/// Calls the handler that the layer is on, which is one of many types.
type Inner = Arc<dyn Fn(String, Value, SharedContext) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A call on its way through the batcher.
#[derive(Clone)]
pub(super) struct Traveller {
    pub(super) plan: Arc<ToolPlan>,
    /// On the heap, since it is handed on many times.
    pub(super) call: Box<Call>,
    pub(super) group: Vec<u8>,
    /// Where there is no bulk function: makes the call, and gives the caller one that is theirs alone.
    pub(super) handler: Option<(Inner, Arc<OwnCall>)>,
    /// What the tool finds of the layers further out.
    pub(super) scope: Captured,
    pub(super) session: SessionOfCall,
    /// Learns whether the tool opens the session of the call, or the bulk function one of its calls, however that ends; and whether
    /// the bulk function asks a client.
    pub(super) work: Arc<Work>,
}

/// What a call is answered with. An error is one of the protocol.
pub(super) type Answer = McpResult<ToolResult>;

/// Makes a call of `handler` whenever it is asked to.
pub(super) fn inner(handler: impl McpHandler) -> Inner {
    Arc::new(move |tool, args, shared| {
        let handler = handler.clone();
        Box::pin(async move { handler.call_tool(&tool, args, &shared.ctx).await })
    })
}

type Answers = McpResult<Vec<McpResult<Answer>>>;

/// Answers the calls of a batch, which are of one tool.
pub(super) async fn answer(batch: Vec<Traveller>) -> Answers {
    match batch.first().and_then(|first| first.plan.bulk.clone()) {
        Some(bulk) => {
            // Which of them it is that depends on a session or a client, only the function knows.
            let works: Vec<_> = batch.iter().map(|traveller| Arc::clone(&traveller.work)).collect();
            let scope = works.iter().cloned().fold(Captured::default(), Captured::with);
            let calls = batch.into_iter().map(|traveller| *traveller.call).collect();
            let results = scope.enter(async move { bulk(calls).await }).await;
            if works.iter().any(|work| work.has_asked()) {
                works.iter().for_each(|work| work.ask());
            }
            let results = results?;
            // A tool's error is told as a result, as a `#[server]` does it.
            let answer = |result: McpResult<_>| Ok(Ok(result.unwrap_or_else(|error| error.to_tool_result())));
            Ok(results.into_iter().map(answer).collect())
        }
        None => Ok(answer_one_by_one(batch).await),
    }
}

/// Makes all calls at the same time, and those with the same arguments once.
async fn answer_one_by_one(batch: Vec<Traveller>) -> Vec<McpResult<Answer>> {
    let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
    let mut distinct: Vec<Alike> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize, foldhash::fast::RandomState> = HashMap::default();
    for (place, traveller) in batch.into_iter().enumerate() {
        let mut key = Vec::new();
        encode(&traveller.call.args, &mut key);
        let alike = *places.entry(key).or_insert(distinct.len());
        match distinct.get_mut(alike) {
            Some(alike) => alike.push((place, traveller)),
            None => distinct.push(vec![(place, traveller)]),
        }
    }
    // Dropped with the batch, it stops the calls.
    let mut calls: JoinSet<_> = distinct.into_iter().map(share).collect();
    while let Some(ended) = calls.join_next().await {
        // Only a runtime that shuts down ends a call without an answer.
        let Ok((answer, answered, others)) = ended else { continue };
        for (place, _) in answered {
            answers[place] = Some(answer.clone());
        }
        for others in by_session(others) {
            calls.spawn(share(others));
        }
    }
    answers.into_iter().map(|answer| answer.ok_or_else(<McpError as BatchError>::lost)).collect()
}

type Alike = Vec<(usize, Traveller)>;

/// Makes one call for all of them, in the scope of the first. If the tool opened its session, what it says is for those in that
/// session, and the others are returned. If it asks the first one's client, the call is handed to the first, and the others call for
/// themselves.
async fn share(alike: Alike) -> (Answer, Alike, Alike) {
    let waiting: Vec<_> = alike.iter().map(|(_, traveller)| Arc::clone(&traveller.work)).collect();
    let (call, inner, scope, session, work) = match alike.first() {
        Some((_, Traveller { call, handler: Some((inner, _)), scope, session, work, .. })) => {
            (call.clone(), Arc::clone(inner), scope.clone(), session.clone(), Arc::clone(work))
        }
        _ => return (Err(<McpError as BatchError>::lost()), alike, Vec::new()),
    };
    work.begin_for(&waiting);
    let scope = waiting.iter().cloned().fold(scope, Captured::with);
    let Call { tool, args, ctx } = *call;
    let shared = SharedContext::new(ctx, &work, Arc::new(Shared(waiting)));
    let call = async move { inner(tool, args, shared).await };
    let call = scope.enter(AssertUnwindSafe(call).catch_unwind());
    let call =
        Box::pin(call.map(|answer| answer.unwrap_or_else(|_| Ok(<McpError as BatchError>::lost().to_tool_result()))));
    let call: Result<Answer, BoxFuture<'static, Answer>> = match select(call, pin!(work.asked())).await {
        Either::Left((answer, _)) if !work.has_asked() => Ok(answer),
        Either::Left((answer, _)) => Err(async { answer }.boxed()),
        Either::Right(((), call)) => Err(call),
    };
    let answer = match call {
        Ok(answer) => answer,
        Err(call) => {
            let mut call = Some(call);
            for (_, own) in alike.iter().filter_map(|(_, traveller)| traveller.handler.as_ref()) {
                own.give(call.take().map_or(Own::Call, Own::GoesOn));
            }
            // Each has a call of their own now. Nobody reads this.
            return (Err(<McpError as BatchError>::lost()), alike, Vec::new());
        }
    };
    let has_opened_session = work.has_opened_session();
    let mut is_first = true;
    let (answered, others) = alike.into_iter().partition(|(_, traveller)| {
        std::mem::take(&mut is_first) || !has_opened_session || traveller.session.is_that_of(&session)
    });
    (answer, answered, others)
}

/// Those of one session together.
fn by_session(alike: Alike) -> Vec<Alike> {
    let mut sessions: Vec<Alike> = Vec::new();
    for (place, traveller) in alike {
        let own = sessions.iter_mut().find(|alike| alike[0].1.session.is_that_of(&traveller.session));
        match own {
            Some(alike) => alike.push((place, traveller)),
            None => sessions.push(vec![(place, traveller)]),
        }
    }
    sessions
}

/// Those who share a call. It is cancelled when all of them have left.
#[derive(Debug)]
struct Shared(Vec<Arc<Work>>);

impl Cancellable for Shared {
    fn is_cancelled(&self) -> bool {
        self.0.iter().all(|work| work.has_no_starter())
    }
}

impl fmt::Debug for Traveller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traveller").field("call", &self.call).finish_non_exhaustive()
    }
}
