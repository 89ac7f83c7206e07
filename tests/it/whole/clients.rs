//! Two users on three connections, through all layers: each connection is asked by its own call, and gets the progress
//! of the work that it waits for.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::testing::{Call, ScriptedServer};
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, SessionStore, TransactionalTool, ValidatedTool,
};
use serde_json::{Value, json};
use turbomcp_core::auth::Principal;
use turbomcp_core::{McpError, McpHandler, McpResult, McpSession, RequestContext, SessionFuture, ToolAnnotations};
use turbomcp_types::{Tool, ToolResult};

use super::shop::{database, own};

/// A connection whose client answers every question with its name.
#[derive(Debug)]
struct Connection {
    user: &'static str,
    name: &'static str,
    asked: Mutex<usize>,
    steps: Mutex<Vec<f64>>,
}

impl Connection {
    fn ctx(self: &Arc<Self>) -> RequestContext {
        let session: Arc<dyn McpSession> = Arc::clone(self) as _;
        RequestContext::http()
            .with_session_id(self.name)
            .with_session(session)
            .with_principal(Principal::new(self.user))
            .with_progress_token(json!(self.name))
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("no panic")
    }

    fn steps(&self) -> Vec<f64> {
        self.steps.lock().expect("no panic").clone()
    }
}

impl McpSession for Connection {
    fn call<'a>(&'a self, _: &'a str, _: Value) -> SessionFuture<'a, Value> {
        *self.asked.lock().expect("no panic") += 1;
        Box::pin(async { Ok(json!({ "roots": [{ "uri": format!("file:///{}", self.name) }] })) })
    }

    fn notify<'a>(&'a self, method: &'a str, params: Value) -> SessionFuture<'a, ()> {
        assert_eq!((method, &params["progressToken"]), ("notifications/progress", &json!(self.name)));
        self.steps.lock().expect("no panic").push(params["progress"].as_f64().expect("a number"));
        Box::pin(async { Ok(()) })
    }
}

/// Two connections of Ada's, and one of Bob's.
fn connections() -> [Arc<Connection>; 3] {
    [("ada", "laptop"), ("ada", "phone"), ("bob", "tablet")]
        .map(|(user, name)| Arc::new(Connection { user, name, asked: Mutex::default(), steps: Mutex::default() }))
}

async fn work(call: &Call) -> McpResult<()> {
    for step in 1..=2 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        call.ctx.report_progress(f64::from(step), None, None).await?;
    }
    Ok(())
}

async fn files(call: Call) -> McpResult<ToolResult> {
    work(&call).await?;
    Ok(ToolResult::text(call.ctx.list_roots().await?[0].uri.to_string()))
}

async fn number(call: Call) -> McpResult<ToolResult> {
    work(&call).await?;
    Ok(ToolResult::text(call.number.to_string()))
}

/// Asks its user, and fails with a temporary failure.
async fn sign(call: Call) -> McpResult<ToolResult> {
    let session = call.ctx.session().ok_or_else(|| McpError::internal("there is nobody to ask"))?;
    session.call("elicitation/create", json!({"message": "Do you agree?"})).await?;
    Err(McpError::unavailable("the notary is busy"))
}

fn idempotent(name: &str) -> Tool {
    let annotations = ToolAnnotations { idempotent_hint: Some(true), ..Default::default() };
    Tool { annotations: Some(annotations), ..Tool::new(name, "may be called twice") }
}

fn office() -> ScriptedServer {
    ScriptedServer::new("office")
        .with_read_only("files", files)
        .with_read_only("count", number)
        .with_read_only("sign", sign)
        .with_tool(idempotent("join sign"), sign)
        .with_tool(idempotent("join files"), files)
        .with_tool(idempotent("join count"), number)
}

async fn whole(script: &ScriptedServer) -> impl McpHandler + use<> {
    let pool = database().await.expect("a database");
    TransactionalTool::ensure_schema(&pool).await.expect("a table");
    let inner = (
        BatchedTool::new().only(["join files", "join count", "join sign"]),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only([""; 0]),
        TransactionalTool::new(pool).only([""; 0]),
    );
    let outer = (own(), ValidatedTool::new(), SessionStore::in_memory().optional(), CachedTool::new());
    outer.layer(inner.layer(script.clone()))
}

async fn call_all(server: &impl McpHandler, tool: &str, connections: &[Arc<Connection>]) -> Vec<String> {
    let calls = connections.iter().map(|connection| async {
        let answer = server.call_tool(tool, json!({}), &connection.ctx()).await.expect("an answer");
        assert!(!answer.is_error(), "{tool}: {answer:?}");
        answer.first_text().expect("a text").to_owned()
    });
    join_all(calls).await
}

#[tokio::test]
async fn each_connection_is_asked_by_its_own_call_and_its_answer_is_not_cached() {
    for tool in ["files", "join files"] {
        let script = office();
        let server = whole(&script).await;
        tokio::time::pause();
        let connections = connections();
        for times in 1..=2 {
            let answers = call_all(&server, tool, &connections).await;
            assert_eq!(answers, ["file:///laptop", "file:///phone", "file:///tablet"], "{tool}");
            assert!(connections.iter().all(|connection| connection.asked() == times), "{tool}");
            assert_eq!(script.calls(tool), 3 * times, "{tool}: as many as without layers");
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_client_that_answered_is_not_asked_again_after_a_temporary_failure() {
    for tool in ["sign", "join sign"] {
        let script = office();
        let server = whole(&script).await;
        tokio::time::pause();
        let connections = connections();
        let calls = connections.iter().map(|connection| async {
            let answer = server.call_tool(tool, json!({}), &connection.ctx()).await.expect("an answer");
            assert_eq!(answer.meta.expect("it says why")["mcp-patterns/exhausted"], "asked", "{tool}");
        });
        join_all(calls).await;
        assert!(connections.iter().all(|connection| connection.asked() == 1), "{tool}");
        assert_eq!(script.calls(tool), 3, "{tool}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn every_waiting_caller_gets_progress_on_its_own_connection_and_each_user_has_one_call() {
    for tool in ["count", "join count"] {
        let script = office();
        let server = whole(&script).await;
        tokio::time::pause();
        let connections = connections();
        let answers = call_all(&server, tool, &connections).await;
        assert!(answers[0] == answers[1] && answers[1] != answers[2], "{tool}: {answers:?}");
        assert_eq!(script.calls(tool), 2, "{tool}");
        for connection in &connections {
            assert_eq!(connection.steps(), [1.0, 2.0], "{tool}: {}", connection.name);
        }
        tokio::time::resume();
    }
}
