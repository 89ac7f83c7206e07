mod ambiguous;
mod anonymous;
mod calls;
mod clocks;
mod contract;
mod drops;
mod failing;
mod failover;
mod memory;
mod not_executed;
mod pools;
mod redis_down;
mod refusals;
mod retried;
mod settings;
mod shared;
mod silence;
mod unresolved;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use turbomcp_core::{ErrorKind, McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::*;
use crate::idempotency_keys::{IDEMPOTENCY, Idempotency, OTHER_CONNECTION, Resolution, ResolveError, Resolved};
use crate::testing::ScriptedServer;
use crate::{AnyRedisConnection, ConfigError, Layer, TryLayer, outcome};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A claim of a call of `send`.
fn claim_of<'a>(id: &'a str, token: &'a str, lease: Duration) -> Claim<'a> {
    Claim {
        id,
        fingerprint: "f",
        tool: "send",
        key: "k",
        caller: "caller",
        connection: None,
        token,
        lease,
        kept_for: None,
        takes_over: false,
    }
}

/// A server whose `send` answers how often it was called.
fn post() -> ScriptedServer {
    ScriptedServer::new("post").with_plain("send", |call| ready(Ok(sent(call.number))))
}

/// A server whose `send` takes a second.
fn slow_post() -> ScriptedServer {
    ScriptedServer::new("post").with_plain("send", |call| async move {
        tokio::time::sleep(secs(1)).await;
        Ok(sent(call.number))
    })
}

/// A server whose `send` fails with `error` on its first call, and succeeds from then on.
fn stumbling_post(error: McpError) -> ScriptedServer {
    ScriptedServer::new("post").with_plain("send", move |call| {
        ready(if call.number == 1 { Err(error.clone()) } else { Ok(sent(call.number)) })
    })
}

/// A server whose `send` waits until the test releases it, each call separately.
fn held_post() -> (ScriptedServer, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let server = ScriptedServer::new("post").with_plain("send", move |call| {
        let gate = Arc::clone(&gate);
        async move {
            tokio::time::timeout(secs(86_400), gate.notified()).await.expect("the test releases it");
            Ok(sent(call.number))
        }
    });
    (server, go)
}

fn sent(number: usize) -> ToolResult {
    ToolResult::text(format!("sent {number}"))
}

fn layer(backend: impl Backend) -> IdempotentTool {
    IdempotentTool::new(backend).only(["send"])
}

/// A backend on a connection that is not replaced.
fn in_redis(connection: ::redis::aio::ConnectionManager) -> RedisBackend {
    RedisBackend::new(AnyRedisConnection::from_redis_1(connection))
}

fn memory() -> IdempotentTool {
    layer(MemoryBackend::new())
}

async fn send(server: &impl McpHandler, key: &str) -> McpResult<ToolResult> {
    send_as(server, key, &RequestContext::new()).await
}

async fn send_as(server: &impl McpHandler, key: &str, ctx: &RequestContext) -> McpResult<ToolResult> {
    server.call_tool("send", json!({"to": "ada", "idempotency_key": key}), ctx).await
}

/// The text of an answer.
fn text(result: &McpResult<ToolResult>) -> String {
    match result {
        Ok(result) => result.first_text().unwrap_or_default().to_owned(),
        Err(error) => error.message.clone(),
    }
}

/// The layer's mark in an answer, or in an error of its own.
fn told(result: &McpResult<ToolResult>) -> Value {
    let marked = match result {
        Ok(result) => result.meta.as_ref().and_then(|meta| meta.get(IDEMPOTENCY)),
        Err(error) => error.data().and_then(|data| data.get(IDEMPOTENCY)),
    };
    let reason = || outcome::failure(result)?.data()?.get(IDEMPOTENCY);
    marked.or_else(reason).cloned().unwrap_or_default()
}

fn kind(result: &McpResult<ToolResult>) -> Option<ErrorKind> {
    outcome::failure(result).and_then(|failure| failure.kind())
}

/// Whether the layer answered that the outcome of the call is unknown.
fn is_ambiguous(result: &McpResult<ToolResult>) -> bool {
    let failure = outcome::failure(result).expect("what is ambiguous is a failure");
    assert!(!failure.is_temporary(), "no layer may make the call again");
    told(result) == "ambiguous"
}

/// An answer without the mark of a replay.
fn unmarked(result: McpResult<ToolResult>) -> ToolResult {
    let mut result = result.expect("an answer");
    if let Some(meta) = &mut result.meta {
        meta.remove(IDEMPOTENCY);
        meta.remove(OTHER_CONNECTION);
    }
    result.meta = result.meta.filter(|meta| !meta.is_empty());
    result
}

/// Waits until all background tasks are idle.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
