//! Servers without their types: their possible positions, and the requests that pass them.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{FutureExt, poll};
use mcp_patterns::testing::ScriptedServer;
use mcp_patterns::{BoxHandler, CachedTool, Layer, RetryTool, TryLayer, boxed};
use serde_json::{Value, json};
use turbomcp::McpServerExt;
use turbomcp_core::{Cancellable, McpHandler, McpResult, RequestContext};
use turbomcp_server::CompositeHandler;
use turbomcp_types::{Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool, ToolResult};

use crate::client::{Client, text};
use crate::stacking::Axum;

/// A server whose tool `read` can be cached.
fn reader(name: &str) -> ScriptedServer {
    ScriptedServer::new(name)
        .with_read_only("read", |call| async move { Ok(ToolResult::text(call.args["id"].to_string())) })
}

async fn status(server: &BoxHandler, tool: &str) -> Option<Value> {
    let answer = server.call_tool(tool, json!({ "id": 1 }), &RequestContext::new()).await.expect("an answer");
    answer.meta?.get("mcp-patterns/cache").map(|cache| cache["status"].clone())
}

/// The layers are chosen at run time, and the type does not change.
fn chosen(is_cached: bool, script: ScriptedServer) -> BoxHandler {
    if is_cached { boxed((CachedTool::new(), RetryTool::new()).layer(script)) } else { boxed(script) }
}

#[tokio::test(start_paused = true)]
async fn chosen_layers_inside_a_boxed_server_act_and_others_do_not() {
    let script = reader("books");
    let server = chosen(true, script.clone());
    assert_eq!(status(&server, "read").await, Some(json!("miss")));
    assert_eq!(status(&server.clone(), "read").await, Some(json!("hit")));
    assert_eq!(status(&chosen(false, script.clone()), "read").await, None);
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test(start_paused = true)]
async fn layers_around_a_boxed_server_act_and_check_their_settings() {
    let script = reader("books");
    let cached = CachedTool::new();
    let handle = cached.handle();
    let server = boxed((cached, RetryTool::new()).layer(boxed(script.clone())));
    assert_eq!(status(&server, "read").await, Some(json!("miss")));
    assert_eq!(status(&server, "read").await, Some(json!("hit")));
    handle.invalidate("read", &json!({ "id": 1 }));
    assert_eq!(status(&server, "read").await, Some(json!("miss")));

    let mistake = CachedTool::new().only(["raed"]).try_layer(boxed(script)).expect_err("no tool bears the name");
    assert!(mistake.to_string().ends_with("did you mean `read`?"), "{mistake}");
}

#[tokio::test(start_paused = true)]
async fn boxed_servers_stand_in_a_composite() {
    let servers = [("books", true), ("films", false)];
    let servers = servers.map(|(name, is_cached)| (name, chosen(is_cached, reader(name))));
    let all = CompositeHandler::new("all", "1.0.0");
    let all = boxed(servers.into_iter().fold(all, |all, (name, server)| all.mount(server, name)));
    let names: Vec<_> = all.list_tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["books_read", "films_read"]);
    assert_eq!(status(&all, "books_read").await, Some(json!("miss")));
    assert_eq!(status(&all, "books_read").await, Some(json!("hit")));
    assert_eq!(status(&all, "films_read").await, None);
}

#[tokio::test]
async fn a_client_calls_a_boxed_server_over_lines_of_json() {
    let client = Client::within(chosen(true, reader("books"))).await;
    assert_eq!(client.server().server_info.expect("the server names itself").name, "books");
    for status in ["miss", "hit"] {
        let answer = client.call("read", json!({ "id": 7 })).await;
        assert_eq!(text(&answer), "7");
        assert_eq!(json!(answer.meta)["mcp-patterns/cache"]["status"], status);
    }
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_boxed_server_is_called_over_http() {
    let mut session = Axum::new(chosen(true, reader("books")).builder().into_axum_router());
    for status in ["miss", "hit"] {
        let answer = session.call("read", json!({ "id": 7 })).await;
        assert_eq!(answer["content"][0]["text"], "7");
        assert_eq!(answer["_meta"]["mcp-patterns/cache"]["status"], status);
    }
}

#[test]
fn the_future_of_a_call_is_two_pointers_in_size() {
    let server = chosen(true, reader("books"));
    let ctx = RequestContext::new();
    let call = server.call_tool("read", json!({}), &ctx);
    assert_eq!(size_of_val(&call), 2 * size_of::<usize>());
    assert_eq!(size_of_val(&server.read_resource("docs://one", &ctx)), 2 * size_of::<usize>());
    assert_eq!(size_of_val(&server.on_initialize()), 2 * size_of::<usize>());
}

#[test]
fn a_boxed_server_is_send_and_sync_and_its_debug_output_names_its_layers() {
    fn is_shared<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let server = boxed(RetryTool::new().layer(reader("books")));
    is_shared(&server);
    let text = format!("{server:?}");
    assert!(text.starts_with("BoxHandler(") && text.contains("RetryTool") && text.contains("ScriptedServer"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_drops_the_call_inside() {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let is_dropped = Arc::new(AtomicBool::new(false));
    let script = ScriptedServer::new("slow").with_plain("wait", {
        let is_dropped = is_dropped.clone();
        move |_| {
            let guard = SetOnDrop(is_dropped.clone());
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        }
    });
    let (server, ctx) = (boxed(script.clone()), RequestContext::new());
    {
        let mut call = pin!(server.call_tool("wait", json!({}), &ctx));
        assert!(poll!(&mut call).is_pending());
        assert_eq!(script.calls("wait"), 1);
        assert!(!is_dropped.load(Ordering::SeqCst));
    }
    assert!(is_dropped.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_caller_and_the_server_answers_the_next_call() {
    let script = reader("books").with_plain("panic", |_| async { panic!("a bug in the tool") });
    let (server, ctx) = (boxed(script), RequestContext::new());
    let call = AssertUnwindSafe(server.call_tool("panic", json!({}), &ctx));
    let panic = call.catch_unwind().await.expect_err("it panics");
    assert_eq!(panic.downcast_ref(), Some(&"a bug in the tool"));
    assert_eq!(status(&server, "read").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_reaches_the_tool() {
    #[derive(Debug)]
    struct Cancelled;
    impl Cancellable for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }

    let script = ScriptedServer::new("slow")
        .with_plain("look", |call| async move { Ok(ToolResult::text(call.ctx.is_cancelled().to_string())) });
    let server = boxed(script);
    for (ctx, is_cancelled) in
        [(RequestContext::new(), "false"), (RequestContext::new().with_cancellation_token(Arc::new(Cancelled)), "true")]
    {
        let answer = server.call_tool("look", json!({}), &ctx).await.expect("an answer");
        assert_eq!(answer.first_text(), Some(is_cancelled));
    }
}

/// A server that counts its clones.
#[derive(Debug, Default)]
struct Cloned(Arc<AtomicUsize>);

impl Clone for Cloned {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}

impl McpHandler for Cloned {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("cloned", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        vec![Tool::new("read", "reads")]
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, _: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        Ok(ToolResult::text("read"))
    }

    async fn read_resource<'a>(&'a self, _: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::default())
    }

    async fn get_prompt<'a>(&'a self, _: &'a str, _: Option<Value>, _: &'a RequestContext) -> McpResult<PromptResult> {
        Ok(PromptResult::default())
    }
}

#[tokio::test]
async fn requests_share_one_server_which_is_never_cloned() {
    async fn clones<H: McpHandler>(wrap: impl Fn(Cloned) -> H) -> usize {
        let clones = Arc::new(AtomicUsize::new(0));
        let client = Client::within(wrap(Cloned(clones.clone()))).await;
        for _ in 0..2 {
            client.call("read", json!({})).await;
        }
        client.close().await;
        clones.load(Ordering::SeqCst)
    }

    assert!(clones(|server| server).await >= 2, "turbomcp clones it for each request");
    assert_eq!(clones(boxed).await, 0);
}
