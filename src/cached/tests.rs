//! The guarantees of the cache, by subject.

mod cache;
mod first_level;
mod layer;
mod second_level;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use crate::outcome::{self, ErrorKind};
use crate::testing::{ScriptedServer, Token};

const MINUTE: Duration = Duration::from_secs(60);

/// A server whose tool `read` answers with the number of the call.
fn numbered() -> ScriptedServer {
    ScriptedServer::new("library")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(call.number.to_string())) })
}

/// Like [`numbered`], but each call waits at the gate.
fn numbered_behind(gate: &Gate) -> ScriptedServer {
    let gate = gate.clone();
    ScriptedServer::new("library").with_read_only("read", move |call| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(ToolResult::text(call.number.to_string()))
        }
    })
}

fn nobody() -> RequestContext {
    RequestContext::new()
}

fn user(subject: &str) -> RequestContext {
    nobody().with_principal(Principal::new(subject))
}

/// The answer of `read` to an anonymous caller.
async fn read(server: &impl McpHandler) -> String {
    answer(server, "read", json!({}), &nobody()).await
}

async fn answer(server: &impl McpHandler, tool: &str, args: Value, ctx: &RequestContext) -> String {
    let result = server.call_tool(tool, args, ctx).await;
    assert!(outcome::failure(&result).is_none(), "{result:?}");
    text(&result.expect("no failure is an error"))
}

fn text(result: &ToolResult) -> String {
    result.first_text().expect("a text").to_owned()
}

/// The kind and the text of a failure.
fn failed(result: &McpResult<ToolResult>) -> (Option<ErrorKind>, String) {
    let failure = outcome::failure(result).expect("a failure");
    (failure.kind(), failure.message().to_owned())
}

/// A gate at which loads wait until the test opens it.
#[derive(Debug, Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }

    /// Lets all waiting and later calls pass.
    fn open(&self) {
        self.0.close();
    }
}

/// Lets all tasks run as far as they can. The clock is paused: it advances only when no task can run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until other threads have made the condition true.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}
