use std::sync::Mutex;

use turbomcp_core::{McpError, ToolAnnotations};
use turbomcp_types::Tool;

use super::*;
use crate::testing::Call;
use crate::{CachedTool, ConfigError, Layer, Middleware, TryLayer, layer};

fn annotated(name: &str, annotations: ToolAnnotations) -> Tool {
    Tool { annotations: Some(annotations), ..Tool::new(name, "a tool") }
}

/// A server with a tool for each combination of annotations.
fn server() -> ScriptedServer {
    let number = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
    let none = ToolAnnotations::default;
    let tools = [
        annotated("read", ToolAnnotations { read_only_hint: Some(true), ..none() }),
        annotated("lend", ToolAnnotations { read_only_hint: Some(false), ..none() }),
        annotated("burn", ToolAnnotations { destructive_hint: Some(true), ..none() }),
        annotated("sort", ToolAnnotations { destructive_hint: Some(false), idempotent_hint: Some(true), ..none() }),
        Tool::new("plain", "says nothing"),
    ];
    tools.into_iter().fold(ScriptedServer::new("library"), |server, tool| server.with_tool(tool, number))
}

/// The tools whose second call is answered from the cache.
async fn cached_by(cached: CachedTool) -> Vec<&'static str> {
    let script = server();
    let server = cached.layer(script.clone());
    let mut cached = Vec::new();
    for tool in ["read", "lend", "burn", "sort", "plain"] {
        for _ in 0..2 {
            answer(&server, tool, json!({}), &nobody()).await;
        }
        if script.calls(tool) == 1 {
            cached.push(tool);
        }
    }
    cached
}

#[tokio::test]
async fn only_tools_annotated_as_read_only_are_cached() {
    assert_eq!(cached_by(CachedTool::new()).await, ["read"]);
    assert_eq!(cached_by(CachedTool::new().only(["read"])).await, ["read"]);
    assert_eq!(cached_by(CachedTool::new().when(|tool| tool.name == "read")).await, ["read"]);
    assert_eq!(cached_by(CachedTool::new().except(["read"])).await, Vec::<&str>::new());
}

#[test]
fn caching_a_tool_with_effects_is_an_error_that_names_the_fix() {
    for tool in ["lend", "burn", "sort", "plain"] {
        for layer in [CachedTool::new().only([tool]), CachedTool::new().when(move |asked| asked.name == tool)] {
            let mistake = layer.try_layer(server()).expect_err("it has effects");
            assert!(
                matches!(&mistake, ConfigError::UnsafeTool { layer: "CachedTool", tool: named, .. } if named == tool),
                "{mistake:?}"
            );
            let text = mistake.to_string();
            assert!(text.contains("allow_skipped_effects") && text.contains(tool), "{text}");
        }
    }
}

#[tokio::test]
async fn a_tool_with_effects_is_cached_if_the_user_allows_it() {
    assert_eq!(cached_by(CachedTool::new().allow_skipped_effects(["burn"])).await, ["read", "burn"]);
    let only = CachedTool::new().only(["burn"]).allow_skipped_effects(["burn"]);
    assert_eq!(cached_by(only).await, ["burn"]);
}

/// Changes the server's tool definitions while it runs.
#[derive(Clone, Default)]
struct Relisted(Arc<Mutex<Vec<Tool>>>);

impl Relisted {
    fn set(&self, tools: &[Tool]) {
        *self.0.lock().expect("no panic") = tools.to_vec();
    }
}

impl Middleware for Relisted {
    fn list_tools<H: McpHandler>(&self, _: &H) -> Vec<Tool> {
        self.0.lock().expect("no panic").clone()
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, _: &RequestContext) -> Vec<Tool> {
        self.list_tools(inner)
    }
}

#[tokio::test]
async fn a_tool_of_a_later_listing_is_cached_from_then_on() {
    let (script, listed) = (numbered(), Relisted::default());
    let server = (CachedTool::new(), layer(listed.clone())).layer(script.clone());
    assert_eq!([read(&server).await, read(&server).await], ["1", "2"], "unknown, so not cached");
    listed.set(&script.list_tools());
    assert_eq!(server.list_tools_for(&nobody()).len(), 1);
    assert_eq!([read(&server).await, read(&server).await], ["3", "3"]);
}

#[tokio::test]
async fn a_tool_that_is_no_longer_read_only_is_no_longer_cached() {
    let (script, listed) = (numbered(), Relisted::default());
    listed.set(&script.list_tools());
    let server = (CachedTool::new(), layer(listed.clone())).layer(script.clone());
    assert_eq!([read(&server).await, read(&server).await], ["1", "1"]);
    listed.set(&[Tool::new("read", "says nothing any more")]);
    server.list_tools();
    assert_eq!([read(&server).await, read(&server).await], ["2", "3"]);
}

#[tokio::test]
async fn an_unchanged_listing_keeps_the_cached_results() {
    let server = CachedTool::new().layer(numbered());
    assert_eq!(read(&server).await, "1");
    server.list_tools();
    assert_eq!(read(&server).await, "1");
}

#[tokio::test]
async fn calls_do_not_list_the_tools() {
    let script = numbered();
    let server = CachedTool::new().layer(script.clone());
    let listings = script.listings();
    assert_eq!(listings, 1);
    for _ in 0..10 {
        read(&server).await;
    }
    assert_eq!(script.listings(), listings);
}

#[tokio::test]
async fn an_unknown_tool_is_refused_by_the_server() {
    let server = CachedTool::new().layer(numbered());
    let result = server.call_tool("raed", json!({}), &nobody()).await;
    assert_eq!(result.expect_err("no such tool").kind, McpError::tool_not_found("raed").kind);
}
