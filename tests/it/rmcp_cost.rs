//! The cost of layers around a server of rmcp.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, RmcpServer, SessionStore, ValidatedTool,
};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    RequestId, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, ServiceExt};

/// A server with a tool of each kind, written by hand. It keeps the peer of its client.
#[derive(Clone, Default)]
struct Plain {
    peer: Arc<OnceLock<Peer<RoleServer>>>,
}

impl ServerHandler for Plain {
    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str, read_only| {
            Tool::new(name, name, rmcp::model::JsonObject::new())
                .with_annotations(ToolAnnotations::new().read_only(read_only))
        };
        Ok(ListToolsResult::with_all_items(vec![tool("read", true), tool("plain", false), tool("other", false)]))
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

/// Counts the allocations of a call that never waits.
fn allocations<S: ServerHandler>(server: &S, peer: &Peer<RoleServer>, tool: &'static str) -> u64 {
    let count = || {
        let ctx = RequestContext::new(RequestId::Number(1), peer.clone());
        let request = CallToolRequestParams::new(tool);
        let call = || {
            let answer = server.call_tool(request, ctx).now_or_never();
            assert!(answer.is_some_and(|answer| answer.is_ok()), "the call does not wait");
        };
        let mut call = Some(call);
        allocation_counter::measure(|| call.take().into_iter().for_each(|call| call())).count_total
    };
    (0..5).map(|_| count()).min().unwrap_or_default()
}

#[tokio::test]
async fn a_call_on_which_no_layer_acts_allocates_as_much_as_without_layers() {
    let plain = Plain::default();
    let (near, far) = tokio::io::duplex(4096);
    let server = plain.clone();
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            let _ = running.waiting().await;
        }
    });
    let _client = ().serve(near).await.expect("the client is connected");
    let peer = loop {
        match plain.peer.get() {
            Some(peer) => break peer,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let layers = (
        ValidatedTool::new().except(["plain"]),
        SessionStore::in_memory().except(["plain"]),
        CachedTool::new(),
        BatchedTool::new().only(["read"]),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["other"]),
    );
    let layered = layers.layer(RmcpServer::new(plain.clone()));
    let (bare, layered) = (allocations(&plain, peer, "plain"), allocations(&layered, peer, "plain"));
    assert_eq!(bare, layered);
}
