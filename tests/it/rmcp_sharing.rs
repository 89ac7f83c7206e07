//! Over HTTP, as many clients meet one server of rmcp: what they share, and what they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::rmcp_server::{RmcpServer, RmcpStack};
use mcp_patterns::{BatchedTool, CachedTool, Layer, RetryTool, Scope};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleClient, ServerHandler, ServiceExt, tool, tool_handler, tool_router};

/// Counts the calls of all instances, and says which instance has answered.
#[derive(Clone)]
struct Counting {
    name: u32,
    calls: Arc<AtomicU32>,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Counting {
    fn new(name: u32, calls: &Arc<AtomicU32>) -> Self {
        Self { name, calls: Arc::clone(calls), tool_router: Self::tool_router() }
    }

    #[tool(description = "Reads something slowly", annotations(read_only_hint = true))]
    async fn read(&self) -> String {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        format!("call {call} at {}", self.name)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Counting {}

/// Serves what `factory` creates for each session, and returns the address.
async fn serve<S: ServerHandler>(factory: impl Fn() -> S + Send + Sync + 'static, has_sessions: bool) -> String {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = has_sessions;
    let service = StreamableHttpService::new(move || Ok(factory()), Arc::new(LocalSessionManager::default()), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    let router = axum::Router::new().nest_service("/mcp", service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn connect(address: &str, token: Option<&str>) -> RunningService<RoleClient, ()> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(address.to_owned());
    config.auth_header = token.map(str::to_owned);
    ().serve(StreamableHttpClientTransport::from_config(config)).await.expect("a connection")
}

async fn read(client: &RunningService<RoleClient, ()>) -> String {
    let answer = client.call_tool(CallToolRequestParams::new("read")).await.expect("an answer");
    answer.content[0].as_text().expect("a text").text.clone()
}

fn layers() -> (CachedTool, BatchedTool, RetryTool) {
    (CachedTool::new(), BatchedTool::new().only(["read"]), RetryTool::new())
}

#[tokio::test]
async fn three_users_whose_credentials_nobody_reads_share_nothing() {
    for has_sessions in [true, false] {
        for scope in [Scope::Principal, Scope::Session] {
            let calls = Arc::default();
            let (cached, batched, retry) = layers();
            let stack = (cached.with_scope(scope), batched, retry).layer(RmcpServer::new(Counting::new(1, &calls)));
            let address = serve(move || stack.clone(), has_sessions).await;
            let users = join_all(["ada", "bob", "cleo"].map(|token| connect(&address, Some(token)))).await;
            for round in 1..=2 {
                // At once: also nobody waits for the call of another one.
                let mut answers = join_all(users.iter().map(read)).await;
                answers.sort();
                answers.dedup();
                assert_eq!((answers.len(), calls.load(Ordering::SeqCst)), (3, round * 3), "{scope:?}, {has_sessions}");
            }
        }
    }
}

#[tokio::test]
async fn two_sessions_of_one_factory_share_nothing() {
    let calls = Arc::default();
    let (cached, batched, retry) = layers();
    let batched = batched.with_scope_for("read", Scope::Public);
    let stack = (cached.with_scope(Scope::Public), batched, retry).layer(RmcpServer::new(Counting::new(0, &calls)));
    let (sessions, of_sessions) = (AtomicU32::new(0), Arc::clone(&calls));
    let factory = move || stack.around(Counting::new(sessions.fetch_add(1, Ordering::SeqCst) + 1, &of_sessions));
    let address = serve(factory, true).await;
    let (one, other) = (connect(&address, None).await, connect(&address, None).await);
    for _ in 0..2 {
        let (first, second) = futures_util::join!(read(&one), read(&other));
        let instance = |answer: &str| answer.rsplit(' ').next().map(str::to_owned);
        assert_ne!(instance(&first), instance(&second), "{first}, {second}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2, "each has its own answer kept");
}
