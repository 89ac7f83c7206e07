//! Over HTTP, with clients of rmcp.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rmcp::ServerHandler;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;

use super::server::{Client, Tools, until};
use crate::rmcp_server::{Principal, RmcpServer, RmcpStack};
use crate::{BatchedTool, CachedTool, Layer, RetryTool, Scope, SessionStore};

/// Serves one stack for all sessions, and returns its address.
async fn serve<S: RmcpStack + ServerHandler>(stack: S, config: StreamableHttpServerConfig) -> String {
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(stack.clone()), sessions, config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().nest_service("/mcp", service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn connect(address: &str, name: &'static str, token: Option<&str>) -> Client {
    let mut config = StreamableHttpClientTransportConfig::with_uri(address.to_owned());
    config.auth_header = token.map(str::to_owned);
    Client::over(StreamableHttpClientTransport::from_config(config), name).await
}

fn reading(tools: &Tools) -> RmcpServer<Tools> {
    RmcpServer::new(tools.clone()).with_principal(|ctx| {
        let parts = ctx.extensions.get::<http::request::Parts>()?;
        let token = parts.headers.get("authorization")?.to_str().ok()?;
        Some(Principal::new(token.strip_prefix("Bearer ")?))
    })
}

#[tokio::test]
async fn two_users_on_three_connections_share_nothing_but_their_own_answers() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), RetryTool::new()).layer(reading(&tools));
    let address = serve(stack, StreamableHttpServerConfig::default()).await;
    let ada = connect(&address, "Ada", Some("ada")).await;
    let bob = connect(&address, "Bob", Some("bob")).await;
    let again = connect(&address, "Ada", Some("ada")).await;
    assert_eq!(ada.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
    assert_eq!(bob.text("weather", json!({"city": "Paris"})).await, "Paris: 2 by only");
    assert_eq!(again.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
}

#[tokio::test]
async fn two_sessions_of_one_stack_are_two_sessions() {
    let tools = Tools::new();
    let stack = CachedTool::new().with_scope(Scope::Session).layer(RmcpServer::new(tools.clone()));
    let address = serve(stack, StreamableHttpServerConfig::default()).await;
    let (ada, bob) = (connect(&address, "Ada", None).await, connect(&address, "Bob", None).await);
    for _ in 0..2 {
        assert_eq!(ada.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
        assert_eq!(bob.text("weather", json!({"city": "Paris"})).await, "Paris: 2 by only");
    }
}

#[tokio::test]
async fn a_question_reaches_the_client_on_the_stream_of_its_own_call() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), BatchedTool::new().only(["ask"]), RetryTool::new()).layer(reading(&tools));
    let address = serve(stack, StreamableHttpServerConfig::default()).await;
    let ada = connect(&address, "Ada", Some("ada")).await;
    let again = connect(&address, "Grace", Some("ada")).await;
    let seen = Arc::clone(&tools.seen);
    let opening = tokio::spawn(async move {
        loop {
            seen.open.notify_waiters();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let (one, other) = tokio::join!(ada.text("ask", json!({})), again.text("ask", json!({})));
    opening.abort();
    assert_eq!((one.as_str(), other.as_str()), ("Hello Ada", "Hello Grace"));
    until(|| ada.user.asked.load(Ordering::SeqCst) == 1 && again.user.asked.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn progress_of_a_call_over_http_rises_through_retries() {
    let stack =
        RetryTool::new().with_base_delay(std::time::Duration::from_millis(1)).layer(RmcpServer::new(Tools::new()));
    let address = serve(stack, StreamableHttpServerConfig::default()).await;
    let mut client = connect(&address, "Ada", None).await;
    assert_eq!(client.text("progress", json!({})).await, "done at call 2");
    for expected in 1..=6 {
        assert_eq!(client.progress.recv().await, Some(f64::from(expected)));
    }
}

#[tokio::test]
async fn a_server_without_sessions_caches_too() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), RetryTool::new().with_base_delay(std::time::Duration::from_millis(1)))
        .layer(reading(&tools));
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = false;
    let address = serve(stack, config).await;
    let (ada, bob) = (connect(&address, "Ada", Some("ada")).await, connect(&address, "Bob", Some("bob")).await);
    for _ in 0..2 {
        assert_eq!(ada.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
        assert_eq!(bob.text("weather", json!({"city": "Paris"})).await, "Paris: 2 by only");
    }
    assert_eq!(ada.text("flaky", json!({})).await, "up at call 3");
}

#[tokio::test]
async fn a_session_that_a_client_makes_up_is_none() {
    let stack = SessionStore::in_memory().layer(RmcpServer::new(Tools::new()));
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = false;
    let address = serve(stack, config.with_json_response(true)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "weather", "arguments": {"city": "Paris"}}});
    let request = http.post(address).header("accept", "application/json, text/event-stream");
    let answer = request.header("mcp-session-id", "made-up").json(&call).send().await.unwrap();
    let answer = answer.text().await.unwrap();
    assert!(answer.contains("session") && !answer.contains("Paris: 1"), "{answer}");
}

#[tokio::test]
async fn the_log_of_a_shared_call_reaches_only_the_one_who_began_it() {
    let tools = Tools::new();
    let stack = CachedTool::new().with_scope(Scope::Public).layer(RmcpServer::new(tools.clone()));
    let address = serve(stack, StreamableHttpServerConfig::default()).await;
    // Nobody reads these credentials.
    let (ada, bob) = (connect(&address, "Ada", Some("ada")).await, connect(&address, "Bob", Some("bob")).await);
    let other = async {
        until(|| tools.seen.calls() == 1).await;
        let call = bob.text("noisy", json!({}));
        let open = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            tools.seen.open.notify_waiters();
        };
        tokio::join!(call, open).0
    };
    let (one, other) = tokio::join!(ada.text("noisy", json!({})), other);
    assert_eq!((one.as_str(), other.as_str()), ("call 1", "call 1"), "they have shared the call");
    until(|| ada.user.logs.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bob.user.logs.load(Ordering::SeqCst), 0);
}
