//! Calls, as bulk functions get them, and how they are made where there is no bulk function.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::task::JoinSet;
use turbomcp_core::{Cancellable, McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::answers::BatchError;
use super::layer::ToolPlan;
use crate::canonical::encode;
use crate::shared::Abandoned;

/// A call of a tool, as it travels with others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// The tool's name.
    pub tool: String,
    /// The arguments.
    pub args: Value,
    /// Who calls: their identity, session and metadata, but no progress token. It is cancelled when the caller has left.
    pub ctx: RequestContext,
}

/// What the bulk functions of all tools look like to the layer.
pub(super) type Bulk =
    Arc<dyn Fn(Vec<Call>) -> BoxFuture<'static, McpResult<Vec<McpResult<ToolResult>>>> + Send + Sync>;

/// Calls the handler that the layer is on, which is one of many types.
type Inner = Arc<dyn Fn(Call) -> BoxFuture<'static, McpResult<ToolResult>> + Send + Sync>;

/// A call on its way through the batcher.
#[derive(Clone)]
pub(super) struct Traveller {
    pub(super) plan: Arc<ToolPlan>,
    pub(super) call: Call,
    pub(super) group: Vec<u8>,
    pub(super) abandoned: Abandoned,
    /// Makes the call where there is no bulk function.
    pub(super) inner: Option<Inner>,
}

/// Makes a call of `handler` whenever it is asked to.
pub(super) fn inner(handler: impl McpHandler) -> Inner {
    Arc::new(move |call| {
        let handler = handler.clone();
        Box::pin(async move { handler.call_tool(&call.tool, call.args, &call.ctx).await })
    })
}

type Answers = McpResult<Vec<McpResult<McpResult<ToolResult>>>>;

/// Answers the calls of a batch, which are of one tool.
pub(super) async fn answer(batch: Vec<Traveller>) -> Answers {
    match batch.first().and_then(|first| first.plan.bulk.clone()) {
        Some(bulk) => {
            let results = bulk(batch.into_iter().map(|traveller| traveller.call).collect()).await?;
            // A tool's error is told as a result, as a `#[server]` does it.
            Ok(results
                .into_iter()
                .map(|result| Ok(Ok(result.unwrap_or_else(|error| error.to_tool_result()))))
                .collect())
        }
        None => Ok(answer_one_by_one(batch).await),
    }
}

/// Makes all calls at the same time, and those with the same arguments once.
async fn answer_one_by_one(batch: Vec<Traveller>) -> Vec<McpResult<McpResult<ToolResult>>> {
    let mut distinct: Vec<(Traveller, Shared)> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut place_of = Vec::with_capacity(batch.len());
    for traveller in batch {
        let mut key = Vec::new();
        encode(&traveller.call.args, &mut key);
        let place = *places.entry(key).or_insert(distinct.len());
        place_of.push(place);
        match distinct.get_mut(place) {
            Some((_, shared)) => shared.0.push(traveller.abandoned),
            None => {
                let shared = Shared(vec![traveller.abandoned.clone()]);
                distinct.push((traveller, shared));
            }
        }
    }
    let mut results: Vec<Option<McpResult<ToolResult>>> = distinct.iter().map(|_| None).collect();
    // Dropped with the batch, it stops the calls.
    let mut calls = JoinSet::new();
    for (place, (traveller, shared)) in distinct.into_iter().enumerate() {
        let Traveller { mut call, inner: Some(inner), .. } = traveller else { continue };
        if shared.0.len() > 1 {
            call.ctx = call.ctx.with_cancellation_token(Arc::new(shared));
        }
        calls.spawn(async move { (place, inner(call).await) });
    }
    while let Some(ended) = calls.join_next().await {
        // A call that panicked has no result.
        if let Ok((place, result)) = ended {
            results[place] = Some(result);
        }
    }
    place_of.into_iter().map(|place| results[place].clone().ok_or_else(<McpError as BatchError>::lost)).collect()
}

/// Those who share a call. It is cancelled when all of them have left.
#[derive(Debug)]
struct Shared(Vec<Abandoned>);

impl Cancellable for Shared {
    fn is_cancelled(&self) -> bool {
        self.0.iter().all(Abandoned::is_set)
    }
}

impl fmt::Debug for Traveller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traveller").field("call", &self.call).finish_non_exhaustive()
    }
}
