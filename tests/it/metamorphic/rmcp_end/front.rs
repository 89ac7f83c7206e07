//! The outer edge of a stack that ends in a server of rmcp.

use std::sync::Arc;

use mcp_patterns::middleware::Target;
use mcp_patterns::{BoxHandler, Layered, Middleware, RmcpServer};
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ServerCapabilities, Tool, ToolResult};

use super::RmcpWorld;

/// A stack of rmcp, whatever its layers are.
pub(in crate::metamorphic) type Front = Layered<Whole, RmcpServer<RmcpWorld>>;

/// Whether one of the layers acts on a request.
pub(in crate::metamorphic) type Acts = Arc<dyn Fn(Target<'_>) -> bool + Send + Sync>;

/// All layers of a stack as one: their number and types are known at run time only.
#[derive(Clone)]
pub(in crate::metamorphic) struct Whole {
    /// The layers around the server.
    stack: BoxHandler,
    layers: Vec<Acts>,
}

/// Puts the layers of `stack`, which are around the same `server`, at the edge.
pub(in crate::metamorphic) fn front(stack: BoxHandler, layers: Vec<Acts>, server: RmcpServer<RmcpWorld>) -> Front {
    Layered::try_new(Whole { stack, layers }, server).expect("nothing can be wrong")
}

impl Middleware for Whole {
    fn acts_on(&self, target: Target<'_>) -> bool {
        self.layers.iter().any(|acts_on| acts_on(target))
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        self.stack.call_tool(name, args, ctx).await
    }

    async fn read_resource<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> McpResult<ResourceResult> {
        self.stack.read_resource(uri, ctx).await
    }

    async fn get_prompt<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        self.stack.get_prompt(name, args, ctx).await
    }

    fn list_tools<H: McpHandler>(&self, _: &H) -> Vec<Tool> {
        self.stack.list_tools()
    }

    fn list_tools_for<H: McpHandler>(&self, _: &H, ctx: &RequestContext) -> Vec<Tool> {
        self.stack.list_tools_for(ctx)
    }

    fn server_capabilities<H: McpHandler>(&self, _: &H) -> ServerCapabilities {
        self.stack.server_capabilities()
    }
}
