mod failures;
mod handle;
mod metrics;
mod order;
mod principals;
mod probes;
mod refusals;
mod settings;
mod slow;

use std::future::pending;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext};
use turbomcp_types::ToolResult;

use super::{BreakerTool, Handle, Reason, State, Window};
use crate::Layer;
use crate::outcome::{self, BREAKER, ErrorKind};
use crate::testing::{ScriptedServer, Token};

const PAUSE: Duration = Duration::from_secs(5);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn user(name: &str) -> RequestContext {
    RequestContext::new().with_user_id(name)
}

/// A server whose tools do what their arguments say: fail with a kind (`fail`), panic (`panic`), never end (`hang`), or answer, after
/// a time (`ms`).
fn server() -> ScriptedServer {
    let work = |call: crate::testing::Call| async move {
        if let Some(millis) = call.args["ms"].as_u64() {
            tokio::time::sleep(ms(millis)).await;
        }
        assert!(call.args.get("panic").is_none(), "it was told to");
        if call.args.get("hang").is_some() {
            pending::<()>().await;
        }
        match call.args.get("fail") {
            Some(kind) => {
                let kind = serde_json::from_value(kind.clone()).expect("a kind");
                Err(McpError::new(kind, "the secret reason"))
            }
            None => Ok(ToolResult::text("done")),
        }
    };
    ScriptedServer::new("shop").with_read_only("search", work).with_read_only("other", work).with_plain("order", work)
}

fn down() -> Value {
    json!({ "fail": "unavailable" })
}

async fn call(server: &impl McpHandler, tool: &str, args: Value) -> McpResult<ToolResult> {
    call_as(server, tool, args, "ada").await
}

async fn call_as(server: &impl McpHandler, tool: &str, args: Value, name: &str) -> McpResult<ToolResult> {
    server.call_tool(tool, args, &user(name)).await
}

/// Says whether a call was refused by a breaker.
fn is_refused(answer: &McpResult<ToolResult>) -> bool {
    outcome::failure(answer).is_some_and(|failure| failure.data().is_some_and(|data| data[BREAKER].is_string()))
}

/// Fails until the breaker of `search` is open.
async fn open(server: &impl McpHandler) {
    for _ in 0..5 {
        assert!(!is_refused(&call(server, "search", down()).await));
    }
    assert!(is_refused(&call(server, "search", json!({})).await), "it is open");
}

fn state(handle: &Handle, name: &str) -> State {
    handle.breaker(name).expect("a breaker").state
}
