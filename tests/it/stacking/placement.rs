//! The positions of wrapped servers, and the names that layers see there.

use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{CachedTool, ConfigError, Layer, RetryTool, TryLayer};
use serde_json::{Value, json};
use turbomcp::{McpHandlerExt, VisibilityLayer};
use turbomcp_core::{McpHandler, RequestContext, ToolAnnotations};
use turbomcp_server::CompositeHandler;
use turbomcp_types::{Tool, ToolResult};

use super::state::reader;

async fn status(server: &impl McpHandler, tool: &str, ctx: &RequestContext) -> Option<Value> {
    let answer = server.call_tool(tool, json!({ "id": 1 }), ctx).await.expect("an answer");
    answer.meta?.get("mcp-patterns/cache").map(|cache| cache["status"].clone())
}

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn inside_a_composite_a_layer_sees_bare_names() {
    let script = reader();
    let cached = CachedTool::new().only(["read"]);
    let handle = cached.handle();
    let server = CompositeHandler::new("all", "1.0.0")
        .mount((cached, RetryTool::new().only(["read"])).layer(script.clone()), "books")
        .mount(reader(), "films");
    assert_eq!(names(&server.list_tools()), ["books_read", "films_read"]);

    let ctx = RequestContext::new();
    assert_eq!(status(&server, "books_read", &ctx).await, Some(json!("miss")));
    assert_eq!(status(&server, "books_read", &ctx).await, Some(json!("hit")));
    assert_eq!(status(&server, "films_read", &ctx).await, None);
    assert_eq!(script.calls("read"), 1);

    handle.invalidate("read", &json!({ "id": 1 }));
    assert_eq!(status(&server, "books_read", &ctx).await, Some(json!("miss")));
}

#[tokio::test(start_paused = true)]
async fn around_a_composite_a_layer_sees_prefixed_names() {
    let composite = || CompositeHandler::new("all", "1.0.0").mount(reader(), "books").mount(reader(), "films");
    let server = CachedTool::new().only(["books_read"]).try_layer(composite()).expect("the name is right");
    let ctx = RequestContext::new();
    assert_eq!(status(&server, "books_read", &ctx).await, Some(json!("miss")));
    assert_eq!(status(&server, "books_read", &ctx).await, Some(json!("hit")));
    assert_eq!(status(&server, "films_read", &ctx).await, None);

    let mistake = CachedTool::new().only(["read"]).try_layer(composite()).expect_err("the name is bare");
    assert!(matches!(mistake, ConfigError::UnknownTool { .. }), "{mistake}");
}

#[tokio::test(start_paused = true)]
async fn a_composite_with_wrapped_servers_can_be_served() {
    let server = CompositeHandler::new("all", "1.0.0").mount(CachedTool::new().layer(reader()), "books");
    let params = json!({ "name": "books_read", "arguments": { "id": 1 } });
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    for status in ["miss", "hit"] {
        let answer = server.handle_request(request.clone(), RequestContext::new()).await.expect("an answer");
        assert_eq!(answer["result"]["_meta"]["mcp-patterns/cache"]["status"], status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_hidden_by_the_server_below_is_not_acted_on() {
    let script = reader().with_read_only("secret", |_| async { Ok(ToolResult::text("secret")) });
    let hiding = || VisibilityLayer::new(script.clone()).with_hidden_tools(["secret"]);
    let server = (CachedTool::new(), RetryTool::new()).layer(hiding());
    assert_eq!(names(&server.list_tools()), ["read"]);

    let ctx = RequestContext::new();
    assert_eq!(status(&server, "read", &ctx).await, Some(json!("miss")));
    assert_eq!(status(&server, "read", &ctx).await, Some(json!("hit")));
    assert_eq!(status(&server, "secret", &ctx).await, None);
    assert_eq!(status(&server, "secret", &ctx).await, None);
    assert_eq!((script.calls("read"), script.calls("secret")), (1, 2));

    assert!(CachedTool::new().only(["secret"]).try_layer(hiding()).is_err(), "no listing has it");
}

#[tokio::test(start_paused = true)]
async fn a_tool_disabled_by_the_server_below_stays_disabled() {
    let server = CachedTool::new().layer(VisibilityLayer::new(reader()).with_disabled_tools(["read"]));
    assert!(server.call_tool("read", json!({}), &RequestContext::new()).await.is_err());
}

/// A server whose tool `audit` is hidden from all sessions except those it is enabled for.
fn with_audit() -> ScriptedServer {
    let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
    let mut audit = Tool { annotations: Some(annotations), ..Tool::new("audit", "changes nothing") };
    audit.meta = Some([("tags".to_owned(), json!(["admin"]))].into());
    reader().with_tool(audit, |_| async { Ok(ToolResult::text("audited")) })
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_acted_on_from_the_first_listing_that_has_it() {
    let script = with_audit();
    let visible = VisibilityLayer::new(script.clone()).disable_tags(["admin"]);
    let server = (CachedTool::new(), RetryTool::new()).layer(visible.clone());
    let admin = RequestContext::new().with_session_id("admin");
    visible.enable_for_session("admin", &["admin".to_owned()]);

    assert_eq!(status(&server, "audit", &admin).await, None, "no listing had it yet");
    assert_eq!(names(&server.list_tools()), ["read"]);
    assert_eq!(names(&server.clone().list_tools_for(&admin)), ["read", "audit"]);
    assert_eq!(status(&server, "audit", &admin).await, Some(json!("miss")));
    assert_eq!(status(&server, "audit", &admin).await, Some(json!("hit")));

    assert_eq!(names(&server.list_tools()), ["read"], "a listing that leaves it out forgets nothing");
    assert_eq!(status(&server, "audit", &admin).await, Some(json!("hit")));
    assert_eq!(script.calls("audit"), 2);
}

/// Permissions are decided outside the cache: a hit does not ask the server below.
#[tokio::test(start_paused = true)]
async fn visibility_filters_outside_the_cache() {
    let admin = RequestContext::new().with_session_id("admin");
    let guest = RequestContext::new().with_session_id("guest");

    let right = VisibilityLayer::new(CachedTool::new().layer(with_audit())).disable_tags(["admin"]);
    right.enable_for_session("admin", &["admin".to_owned()]);
    assert_eq!(status(&right, "audit", &admin).await, Some(json!("miss")));
    assert_eq!(status(&right, "audit", &admin).await, Some(json!("hit")));
    assert!(right.call_tool("audit", json!({ "id": 1 }), &guest).await.is_err());

    let visible = VisibilityLayer::new(with_audit()).disable_tags(["admin"]);
    visible.enable_for_session("admin", &["admin".to_owned()]);
    let wrong = CachedTool::new().layer(visible);
    wrong.list_tools_for(&admin);
    assert_eq!(status(&wrong, "audit", &admin).await, Some(json!("miss")));
    assert_eq!(status(&wrong, "audit", &guest).await, Some(json!("hit")), "answered without asking for the caller");
}
