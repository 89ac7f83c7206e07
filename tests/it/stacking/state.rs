//! A layer's state is shared, so copying a layer or a server never resets it.

use std::net::{Ipv4Addr, SocketAddr};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use mcp_patterns::retry::Budget;
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{CachedTool, Layer, RetryTool, layer};
use serde_json::{Value, json};
use tower::Service;
use turbomcp::McpHandlerExt;
use turbomcp_core::{McpError, McpHandler, RequestContext};
use turbomcp_types::ToolResult;

use super::Times;

/// A server whose tool `read` can be cached.
pub(super) fn reader() -> ScriptedServer {
    ScriptedServer::new("reader")
        .with_read_only("read", |call| async move { Ok(ToolResult::text(call.args["id"].to_string())) })
}

/// A server whose tool `read` always fails for a temporary reason.
fn failing() -> ScriptedServer {
    ScriptedServer::new("failing").with_read_only("read", |_| async { Err(McpError::unavailable("down")) })
}

async fn read(server: &impl McpHandler) {
    let answer = server.call_tool("read", json!({ "id": 1 }), &RequestContext::new()).await;
    answer.expect("a result, be it an error");
}

#[tokio::test(start_paused = true)]
async fn all_copies_of_a_layer_and_a_server_share_one_cache() {
    let script = reader();
    let cached = CachedTool::new();
    let handle = cached.handle();
    let server = (layer(Times(1)), cached.clone()).layer(script.clone());
    let server = server.inner().clone();
    read(&server).await;
    read(&server.clone()).await;
    read(&cached.layer(script.clone())).await;
    read(&cached.clone().layer(script.clone())).await;
    read(&(layer(Some(cached.clone())), RetryTool::new()).layer(script.clone())).await;
    for id in 0..3 {
        let request = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "read", "arguments": { "id": 1 } },
        });
        let answer = server.handle_request(request, RequestContext::new()).await.expect("an answer");
        assert_eq!(answer["result"]["_meta"]["mcp-patterns/cache"]["status"], "hit");
    }
    assert_eq!(script.calls("read"), 1);
    assert_eq!((handle.stats().hits, handle.stats().misses), (7, 1));
}

#[tokio::test(start_paused = true)]
async fn two_separately_created_caches_are_separate() {
    let script = reader();
    read(&CachedTool::new().layer(script.clone())).await;
    read(&CachedTool::new().layer(script.clone())).await;
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test(start_paused = true)]
async fn all_copies_of_a_layer_and_a_server_share_one_budget() {
    let script = failing();
    // Half of the budget is for other callers.
    let budget = Budget::new().with_ratio(0.0).with_retries_per_second(0.0).with_burst(6);
    let retry = RetryTool::new().with_max_attempts(2).with_budget(budget.clone()).with_seed(1);
    let server = retry.layer(script.clone());

    read(&server).await;
    read(&server.clone()).await;
    read(&retry.clone().layer(script.clone())).await;
    assert_eq!((script.calls("read"), budget.available()), (6, 3), "three calls, each with its retry");

    read(&server).await;
    read(&retry.layer(script.clone())).await;
    assert_eq!(script.calls("read"), 8, "two more calls, and no retry is left for this caller");
}

/// A session with an axum router, without a socket.
pub(crate) struct Axum {
    router: axum::Router,
    session: Option<String>,
}

impl Axum {
    pub(crate) fn new(router: axum::Router) -> Self {
        Self { router, session: None }
    }

    /// Calls a tool, in a session that is opened when it is first needed.
    pub(crate) async fn call(&mut self, tool: &str, args: Value) -> Value {
        if self.session.is_none() {
            let hello = json!({
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
            });
            self.send(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello })).await;
            self.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        }
        let params = json!({ "name": tool, "arguments": args });
        let text = self.send(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await;
        let message = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or(&text).to_owned();
        let answer: Value = serde_json::from_str(&message).unwrap_or_else(|error| panic!("{error}: {text}"));
        answer["result"].clone()
    }

    async fn send(&mut self, message: Value) -> String {
        let mut request = Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("host", "localhost")
            .header("mcp-protocol-version", "2025-11-25");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        // The router treats a request without an origin as a cross-site request.
        let local = ConnectInfo(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let request = request.extension(local).body(Body::from(message.to_string())).expect("a request");
        let response = self.router.call(request).await.expect("a router always answers");
        assert!(response.status().is_success(), "{}", response.status());
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session = Some(session.to_str().expect("a text").to_owned());
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("a text")
    }
}
