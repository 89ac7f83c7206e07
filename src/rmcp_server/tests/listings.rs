//! Listings: layers see the tools of the server, and clients see those of the layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, ListToolsResult,
    PaginatedRequestParams, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::json;

use super::server::{Client, Tools};
use crate::idempotent::MemoryBackend;
use crate::rmcp_server::RmcpServer;
use crate::session::SessionMode;
use crate::{
    CachedTool, ConfigError, IdempotentTool, Layer, Middleware, RetryTool, SessionStore, TryLayer, ValidatedTool,
    explain, layer,
};

#[tokio::test]
async fn a_listing_has_the_tools_and_arguments_of_the_layers_and_get_tool_has_the_same() {
    let stack = (
        ValidatedTool::new(),
        SessionStore::in_memory().with_mode(SessionMode::Handle).only(["weather"]),
        CachedTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["write"]),
    )
        .layer(RmcpServer::new(Tools::new()));
    let client = Client::connect(&stack, "Ada").await;
    let bare = Client::connect(&Tools::new(), "Ada").await.service.list_all_tools().await.unwrap();
    let listed = client.service.list_all_tools().await.unwrap();
    let find = |name: &str| listed.iter().find(|tool| tool.name == name);
    assert!(find("write").unwrap().input_schema["properties"].get("idempotency_key").is_some());
    assert!(find("weather").unwrap().input_schema["properties"].get("session").is_some());
    assert!(find("open_session").is_some(), "{listed:#?}");
    for tool in &listed {
        assert_eq!(ServerHandler::get_tool(&stack, &tool.name).as_ref(), Some(tool), "{}", tool.name);
    }
    for tool in bare.iter().filter(|tool| !["write", "weather"].contains(&&*tool.name)) {
        assert_eq!(find(&tool.name), Some(tool), "a tool that no layer changes stays as it is");
    }
    assert_eq!(ServerHandler::get_tool(&stack, "missing"), None);
}

#[tokio::test]
async fn layers_act_by_the_annotations_of_the_server() {
    let stack = (CachedTool::new(), RetryTool::new()).layer(RmcpServer::new(Tools::new()));
    let explained = explain(&stack);
    let table = explained.to_string();
    explained.strict().unwrap();
    assert!(table.contains("weather"), "{table}");
    let mistake = CachedTool::new().only(["wether"]).try_layer(RmcpServer::new(Tools::new())).unwrap_err();
    assert!(mistake.to_string().ends_with("did you mean `weather`?"), "{mistake}");
}

/// Lists two tools in two pages, perhaps after a wait.
#[derive(Clone)]
struct Paged {
    waits: bool,
}

impl ServerHandler for Paged {
    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if self.waits {
            tokio::task::yield_now().await;
        }
        let (name, next) = match page.and_then(|page| page.cursor).as_deref() {
            None => ("first", Some("2".to_owned())),
            Some("2") => ("second", None),
            Some(_) => return Err(ErrorData::new(ErrorCode::INVALID_PARAMS, "no such page", None)),
        };
        // Not a schema, but the server's own.
        let schema = json!({"type": "object", "required": "odd"}).as_object().cloned().unwrap_or_default();
        let mut listed = ListToolsResult::with_all_items(vec![Tool::new(name, name, schema)]);
        listed.next_cursor = next;
        Ok(listed)
    }

    fn get_info(&self) -> ServerConfig {
        Tools::new().get_info()
    }
}

#[tokio::test]
async fn all_pages_are_known_and_tools_of_layers_are_on_the_first() {
    let stack = (
        SessionStore::in_memory().with_mode(SessionMode::Handle).only(["first"]),
        IdempotentTool::new(MemoryBackend::new()).only(["second"]),
    )
        .layer(RmcpServer::new(Paged { waits: false }));
    let client = Client::connect(&stack, "Ada").await;
    let names = |listed: &ListToolsResult| listed.tools.iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>();
    let bare = Client::connect(&Paged { waits: false }, "Ada").await;
    let first = client.service.list_tools(None).await.unwrap();
    assert_eq!(names(&first), ["first", "open_session", "close_session"]);
    let mut page = PaginatedRequestParams::default();
    page.cursor = first.next_cursor;
    assert_eq!(names(&client.service.list_tools(Some(page)).await.unwrap()), ["second"]);
    let unchanged = layer(Observing::default()).layer(RmcpServer::new(Paged { waits: false }));
    let unchanged = Client::connect(&unchanged, "Ada").await;
    assert_eq!(unchanged.service.list_all_tools().await.unwrap(), bare.service.list_all_tools().await.unwrap());
}

#[tokio::test]
async fn a_server_that_waits_before_it_lists_its_tools_is_loaded() {
    let refused = RmcpServer::try_new(Paged { waits: true }).unwrap_err();
    assert!(refused.to_string().contains("use `RmcpServer::load(server).await`"), "{refused}");
    let loaded = RmcpServer::load(Paged { waits: true }).await.unwrap();
    let stack = IdempotentTool::new(MemoryBackend::new()).only(["second"]).layer(loaded);
    explain(&stack).strict().unwrap();
}

#[test]
fn a_server_outside_of_a_runtime_is_a_mistake_in_the_settings() {
    let refused: ConfigError = RmcpServer::try_new(Tools::new()).unwrap_err();
    assert!(refused.to_string().contains("needs a Tokio runtime"), "{refused}");
}

/// Counts the listings from which it learns.
#[derive(Clone, Default)]
struct Observing(Arc<AtomicU32>);

impl Middleware for Observing {
    fn observe_tools(&self, _: &[turbomcp_types::Tool], _: Option<&turbomcp_core::RequestContext>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn describe(&self, _: &[turbomcp_types::Tool]) -> crate::explain::Description {
        self.0.fetch_add(1, Ordering::SeqCst);
        crate::explain::Description::of::<Self>()
    }
}

#[tokio::test]
async fn layers_do_not_take_one_tool_for_all_tools() {
    let observing = Observing::default();
    // With no tool so far, the layer is judged at the first listing that has one.
    let server = RmcpServer::with_tools(Tools::new(), []).unwrap();
    let stack = layer(observing.clone()).layer(server);
    let before = observing.0.load(Ordering::SeqCst);
    assert!(ServerHandler::get_tool(&stack, "weather").is_some());
    assert_eq!(observing.0.load(Ordering::SeqCst), before);
}

/// Lists a second tool once it has grown.
#[derive(Clone, Default)]
struct Growing(Arc<AtomicU32>);

impl ServerHandler for Growing {
    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let schema = Arc::new(schema.as_object().cloned().unwrap_or_default());
        let names = &["old", "new"][..=self.0.load(Ordering::SeqCst) as usize];
        Ok(ListToolsResult::with_all_items(names.iter().map(|name| Tool::new(*name, *name, schema.clone())).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(request.name)]).into())
    }

    fn get_info(&self) -> ServerConfig {
        Tools::new().get_info()
    }
}

#[tokio::test]
async fn a_tool_that_is_added_at_run_time_is_served_and_protected_at_its_first_call() {
    let server = Growing::default();
    let client = Client::connect(&ValidatedTool::new().layer(RmcpServer::new(server.clone())), "Ada").await;
    let mut call = CallToolRequestParams::new("new");
    call.arguments = json!({"city": "Paris"}).as_object().cloned();
    server.0.store(1, Ordering::SeqCst);
    let answer = client.service.call_tool(call.clone()).await.expect("the server has the tool now");
    assert_eq!(answer.is_error, Some(false));
    call.arguments = json!({"city": 7}).as_object().cloned();
    let refused = client.service.call_tool(call).await.unwrap();
    assert_eq!(refused.is_error, Some(true), "its own schema is checked: {refused:?}");
}

#[tokio::test]
async fn the_error_of_a_start_is_a_sentence_where_main_returns_it() {
    let file = crate::testing::databases::sqlite().await;
    let keys = crate::idempotent::SqlBackend::new(file.pool.clone());
    let stack = IdempotentTool::new(keys).only(["write"]).layer(RmcpServer::new(Tools::new()));
    let error = crate::rmcp_server::RmcpStack::start(&stack).await.expect_err("there is no table");
    let (printed, sentence) = (format!("{error:?}"), error.to_string());
    assert_eq!(printed, sentence);
    assert!(sentence.contains("ensure_schema") && !sentence.contains('{'), "{sentence}");
    assert_eq!(ErrorData::from(error).message, sentence, "a handler of rmcp can return it, too");
}
