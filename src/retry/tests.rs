mod attempts;
mod budget;
mod delays;
mod ends;
mod hints;
mod meta;
mod nested;
mod progress;
mod questions;
mod run;
mod settings;
mod shares;

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::RetryTool;
use crate::testing::{ScriptedServer, Token};
use crate::{Layer, Middleware, layer};

/// More failures than in any test.
const ALWAYS: usize = usize::MAX;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn down() -> McpError {
    McpError::unavailable("the upstream is down")
}

fn user(name: &str) -> RequestContext {
    RequestContext::new().with_user_id(name)
}

/// A server whose read-only `get` fails with `error` on its first `times` calls.
fn failing(times: usize, error: McpError) -> ScriptedServer {
    ScriptedServer::new("upstream").with_read_only("get", move |call| {
        ready(if call.number <= times { Err(error.clone()) } else { Ok(ToolResult::text("here")) })
    })
}

/// Fails with this `Err` when the server below fails with a result, as a handwritten handler may.
#[derive(Clone)]
struct Raises(McpError);

impl Middleware for Raises {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let result = inner.call_tool(name, args, ctx).await?;
        if result.is_error() { Err(self.0.clone()) } else { Ok(result) }
    }
}

/// `failing`, with the failures as `Err`.
fn raising(script: ScriptedServer, error: McpError) -> impl McpHandler {
    layer(Raises(error)).layer(script)
}

async fn call(server: &impl McpHandler) -> McpResult<ToolResult> {
    call_with(server, &RequestContext::new()).await
}

async fn call_with(server: &impl McpHandler, ctx: &RequestContext) -> McpResult<ToolResult> {
    server.call_tool("get", json!({}), ctx).await
}

/// The layer's mark in a result, in either form: (attempts, exhausted).
fn notes(result: &McpResult<ToolResult>) -> (Value, Value) {
    let entry = |key| match result {
        Ok(result) => result.meta.as_ref().and_then(|meta| meta.get(key)).cloned().unwrap_or_default(),
        Err(error) => error.data().and_then(|data| data.get(key)).cloned().unwrap_or_default(),
    };
    (entry("mcp-patterns/attempts"), entry("mcp-patterns/exhausted"))
}

/// The events, in order.
#[derive(Debug)]
struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Log<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn push(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    fn entries(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The delays that one call takes before it gives up on a tool that always fails with `error`.
async fn delays_of(retry: RetryTool, error: McpError) -> Vec<Duration> {
    let delays = Log::new();
    let hook = delays.clone();
    let server = retry.on_retry(move |event| hook.push(event.delay)).layer(failing(ALWAYS, error));
    call(&server).await.unwrap();
    delays.entries()
}
