//! The world as a server of rmcp.

use std::sync::LazyLock;

use mcp_patterns::rmcp_server::Failed;
use rmcp::handler::server::tool::IntoCallToolResult;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, ListToolsResult, PaginatedRequestParams, PromptMessage, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ResourceContents, Role, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use turbomcp_core::McpError;

use crate::metamorphic::requests::{DEFINITIONS, Op, Request};
use crate::metamorphic::world::{Caller, World};

/// The same server as the [`World`], of the other SDK.
#[derive(Clone)]
pub(in crate::metamorphic) struct RmcpWorld(pub(in crate::metamorphic) World);

/// What the tools say of themselves, as in [`DEFINITIONS`].
static TOOLS: LazyLock<[Vec<(Op, Tool)>; 2]> = LazyLock::new(|| {
    let converted = |tool| serde_json::from_value(serde_json::to_value(tool).expect("a tool")).expect("a tool");
    [0, 1].map(|of| DEFINITIONS[of].iter().map(|(op, tool)| (*op, converted(tool))).collect())
});

impl ServerHandler for RmcpWorld {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        ctx: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = &TOOLS[usize::from(!Caller::Rmcp(&ctx).is_viewer())];
        let there = tools.iter().filter(|(op, _)| self.0.has(*op)).map(|(_, tool)| tool.clone());
        Ok(ListToolsResult::with_all_items(there.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(op) = Op::TOOLS.into_iter().find(|op| op.name() == request.name) else {
            return Err(Failed(McpError::tool_not_found(request.name)).into());
        };
        let request = Request::of(op, &Value::Object(request.arguments.unwrap_or_default()));
        match self.0.answer(request, &Caller::Rmcp(&ctx)).await {
            Ok((text, structured)) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = structured;
                Ok(result.into())
            }
            Err(failed) if failed.is_error() => Err(Failed(failed.into_error()).into()),
            Err(failed) => match failed.into_text() {
                Ok(error) => Failed(error).into_call_tool_result(),
                Err(text) => Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into()),
            },
        }
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let topic = request.uri.strip_prefix("note://").and_then(|topic| topic.parse().ok());
        let topic = topic.ok_or_else(|| Failed(McpError::resource_not_found(&request.uri)))?;
        match self.0.answer(Request { op: Op::Note, topic, n: 0, key: None }, &Caller::Rmcp(&ctx)).await {
            Ok((text, _)) => Ok(ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]).into()),
            Err(failed) => Err(Failed(failed.into_error()).into()),
        }
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let asked = Request::of(Op::Greeting, &Value::Object(request.arguments.unwrap_or_default()));
        match self.0.answer(asked, &Caller::Rmcp(&ctx)).await {
            Ok((text, _)) => {
                Ok(GetPromptResult::new(vec![PromptMessage::new(Role::User, ContentBlock::text(text))]).into())
            }
            Err(failed) => Err(Failed(failed.into_error()).into()),
        }
    }
}
