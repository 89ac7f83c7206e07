//! A server of rmcp with a tool of each kind, written by hand: for a test and for benches.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, RmcpServer, SessionStore, TransactionalTool,
    ValidatedTool,
};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient, RunningService};
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, ServiceExt};
use sqlx::sqlite::SqlitePoolOptions;

/// The tool that takes a millisecond.
pub(crate) const SLOW: &str = "slow";

/// The server. It keeps the peer of its client.
#[derive(Clone)]
pub(crate) struct Plain {
    tools: Arc<[Tool]>,
    peer: Arc<OnceLock<Peer<RoleServer>>>,
}

impl ServerHandler for Plain {
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == SLOW {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn on_initialized(&self, ctx: NotificationContext<RoleServer>) {
        let _ = self.peer.set(ctx.peer);
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }
}

impl Plain {
    pub(crate) fn new() -> Self {
        let tool = |name: &'static str, read_only| {
            Tool::new(name, name, rmcp::model::JsonObject::new())
                .with_annotations(ToolAnnotations::new().read_only(read_only))
        };
        let tools = [tool("read", true), tool(SLOW, true), tool("plain", false), tool("other", false)];
        Self { tools: tools.into(), peer: Arc::default() }
    }

    /// Connects a client in this process, and returns it with the server's peer for it.
    pub(crate) async fn connect(&self) -> (RunningService<RoleClient, ()>, Peer<RoleServer>) {
        let (near, far) = tokio::io::duplex(4096);
        let server = self.clone();
        tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        let client = ().serve(near).await.expect("the client is connected");
        loop {
            match self.peer.get() {
                Some(peer) => return (client, peer.clone()),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Two layers, which act on `read` and `slow`.
pub(crate) fn two(server: Plain) -> impl ServerHandler + Clone {
    (CachedTool::new(), RetryTool::new()).layer(RmcpServer::new(server))
}

/// All layers in the documented order. No layer acts on `plain`.
pub(crate) fn whole(server: Plain) -> impl ServerHandler + Clone {
    let pool = SqlitePoolOptions::new().connect_lazy("sqlite::memory:").expect("a database in memory");
    (
        ValidatedTool::new().except(["plain"]),
        SessionStore::in_memory().except(["plain"]),
        CachedTool::new(),
        BatchedTool::new().only(["read"]),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["other"]),
        TransactionalTool::new(pool).only(["other"]),
    )
        .layer(RmcpServer::new(server))
}
