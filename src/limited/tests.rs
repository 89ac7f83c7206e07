mod adaptive;
mod concurrency;
#[cfg(feature = "redis")]
mod in_redis;
mod order;
mod principals;
mod rates;
mod replicas;
mod settings;
mod timeouts;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::{Concurrency, LimitedTool, Per, Rate};
use crate::Layer;
use crate::outcome::{self, ErrorKind, LIMIT};
use crate::testing::{ScriptedServer, Token};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn user(name: &str) -> RequestContext {
    RequestContext::new().with_user_id(name)
}

/// A server whose tools answer at once, or after the time of their argument `ms`.
fn server() -> ScriptedServer {
    let work = |call: crate::testing::Call| async move {
        if let Some(millis) = call.args["ms"].as_u64() {
            tokio::time::sleep(ms(millis)).await;
        }
        Ok(ToolResult::text("done"))
    };
    ScriptedServer::new("shop").with_read_only("search", work).with_read_only("other", work).with_plain("order", work)
}

/// A refusal: its word, its kind, and the time after which the caller may try again.
type Refusal = (String, Option<ErrorKind>, Option<Duration>);

/// Calls a tool. The outer layers see a result and never a protocol error.
async fn call(server: &impl McpHandler, tool: &str, args: Value, ctx: &RequestContext) -> Result<(), Refusal> {
    let answer = server.call_tool(tool, args, ctx).await;
    let Some(failure) = outcome::failure(&answer) else { return Ok(()) };
    assert!(answer.is_ok(), "a model reads it: {answer:?}");
    let word = failure.data().expect("it is marked")[LIMIT].as_str().expect("it is a word").to_owned();
    Err((word, failure.kind(), failure.retry_after()))
}

async fn search(server: &impl McpHandler, ctx: &RequestContext) -> Result<(), Refusal> {
    call(server, "search", json!({}), ctx).await
}

fn by_rate(after: Duration) -> Refusal {
    ("rate".to_owned(), Some(ErrorKind::RateLimited), Some(after))
}

fn busy(kind: ErrorKind) -> Refusal {
    ("busy".to_owned(), Some(kind), None)
}
