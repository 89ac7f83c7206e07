//! Listings in pages, which only servers of rmcp have.

use mcp_patterns::rmcp_server::{Principal, RmcpServer};
use mcp_patterns::{Layer, ValidatedTool};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, Tool,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::{ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};

/// Lists two tools in two pages. The administrator may use larger numbers with the first one.
#[derive(Clone)]
struct Paged;

fn name(ctx: &RequestContext<RoleServer>) -> Option<String> {
    Some(ctx.peer.peer_info()?.client_info.name.clone())
}

impl ServerHandler for Paged {
    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        ctx: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let most = if name(&ctx).as_deref() == Some("admin") { 99 } else { 9 };
        let (tool, next) = match page.and_then(|page| page.cursor).as_deref() {
            None => ("first", Some("2".to_owned())),
            Some(_) => ("second", None),
        };
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": most}}});
        let schema = schema.as_object().cloned().unwrap_or_default();
        let mut listed = ListToolsResult::with_all_items(vec![Tool::new(tool, tool, schema)]);
        listed.next_cursor = next;
        Ok(listed)
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}

struct User(&'static str);

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.client_info = Implementation::new(self.0, "1");
        info
    }
}

async fn connect(stack: &(impl ServerHandler + Clone), name: &'static str) -> RunningService<RoleClient, User> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let stack = stack.clone();
    tokio::spawn(async move {
        if let Ok(running) = stack.serve(far).await {
            let _ = running.waiting().await;
        }
    });
    User(name).serve(near).await.expect("a connection")
}

async fn may(client: &RunningService<RoleClient, User>, tool: &'static str, n: u32) -> bool {
    let mut call = CallToolRequestParams::new(tool);
    call.arguments = Some(Value::from_iter([("n", n)]).as_object().cloned().unwrap_or_default());
    client.call_tool(call).await.is_ok_and(|answer| answer.is_error != Some(true))
}

#[tokio::test]
async fn a_later_page_takes_nothing_from_what_its_caller_has_received_before() {
    let server = RmcpServer::new(Paged).with_principal(|ctx| Some(Principal::new(name(ctx)?)));
    let stack = ValidatedTool::new().layer(server);
    let (admin, bob) = (connect(&stack, "admin").await, connect(&stack, "bob").await);
    for client in [&admin, &bob] {
        assert_eq!(client.list_all_tools().await.expect("the tools").len(), 2);
    }
    for tool in ["first", "second"] {
        assert!(may(&admin, tool, 50).await, "{tool}");
        assert!(may(&bob, tool, 5).await, "{tool}");
        assert!(!may(&bob, tool, 50).await, "{tool}");
    }
}

#[tokio::test]
async fn the_first_page_is_not_taken_for_all_tools() {
    let server = RmcpServer::new(Paged).with_principal(|ctx| Some(Principal::new(name(ctx)?)));
    let stack = ValidatedTool::new().layer(server);
    let (admin, bob) = (connect(&stack, "admin").await, connect(&stack, "bob").await);
    for client in [&admin, &bob, &admin] {
        let _ = client.list_tools(None).await.expect("a page");
        assert!(may(client, "second", 5).await);
    }
    assert!(may(&admin, "second", 50).await);
}
