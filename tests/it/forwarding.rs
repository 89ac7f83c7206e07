//! A wrapped server is still the whole server: every method of the trait reaches it and is answered unchanged.

mod boxed;
mod everything;
mod served;

use mcp_patterns::cached::Reads;
use mcp_patterns::{CachedTool, Layer, Layered, Middleware, RetryTool, layer};
use serde_json::{Value, json};
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ToolResult};

use everything::{Everything, READ_ONLY};

/// A user's layer that changes nothing.
#[derive(Clone, Debug)]
struct Own;

impl Middleware for Own {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        inner.call_tool(name, args, ctx).await
    }

    async fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> McpResult<ResourceResult> {
        inner.read_resource(uri, ctx).await
    }

    async fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        inner.get_prompt(name, args, ctx).await
    }
}

/// Applies every layer to a server, directly, as `Some` and as `None`.
fn wrapped<H: McpHandler>(server: H) -> impl McpHandler {
    (
        layer(Own),
        CachedTool::new().without_meta().with_resources(Reads::new()).with_prompts(Reads::new()),
        RetryTool::new().with_max_attempts(1),
        layer(Some(CachedTool::new().without_meta())),
        layer(Some(RetryTool::new().with_max_attempts(1))),
        layer(None::<CachedTool>),
        layer(None::<RetryTool>),
        (layer(Some(Own)), layer(None::<Own>)),
    )
        .layer(server)
}

fn ctx() -> RequestContext {
    RequestContext::with_id("request 7").with_session_id("session 8").with_user_id("ada")
}

/// The compared part of an answer: errors have an id and a time, which are not compared.
fn seen<T: serde::Serialize>(answer: McpResult<T>) -> Value {
    match answer {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "kind": error.kind, "message": error.message, "data": error.data() }),
    }
}

/// Makes every possible request, one entry for each method of the trait.
async fn answers(server: &impl McpHandler) -> Vec<(&'static str, Value)> {
    let ctx = &ctx();
    vec![
        ("server_info", json!(server.server_info())),
        ("instructions", json!(server.instructions())),
        ("server_capabilities", json!(server.server_capabilities())),
        ("list_tools", json!(server.list_tools())),
        ("list_resources", json!(server.list_resources())),
        ("list_resource_templates", json!(server.list_resource_templates())),
        ("list_prompts", json!(server.list_prompts())),
        ("list_tools_for", json!(server.list_tools_for(ctx))),
        ("list_resources_for", json!(server.list_resources_for(ctx))),
        ("list_resource_templates_for", json!(server.list_resource_templates_for(ctx))),
        ("list_prompts_for", json!(server.list_prompts_for(ctx))),
        ("page_size", json!(server.page_size())),
        ("call_tool", seen(server.call_tool("write", json!({"a": 1}), ctx).await)),
        ("call_tool", seen(server.call_tool(READ_ONLY, json!({"a": 1}), ctx).await)),
        ("read_resource", seen(server.read_resource("file:///one", ctx).await)),
        ("get_prompt", seen(server.get_prompt("greet", Some(json!({"name": "Ada"})), ctx).await)),
        ("list_tasks", seen(server.list_tasks(Some("page 2"), Some(5), ctx).await)),
        ("get_task", seen(server.get_task("t1", ctx).await)),
        ("cancel_task", seen(server.cancel_task("t2", ctx).await)),
        ("get_task_result", seen(server.get_task_result("t3", ctx).await)),
        ("subscribe", seen(server.subscribe("file:///two", ctx).await)),
        ("unsubscribe", seen(server.unsubscribe("file:///three", ctx).await)),
        ("set_log_level", seen(server.set_log_level("warning", ctx).await)),
        ("complete", seen(server.complete(json!({"argument": {"value": "A"}}), ctx).await)),
        ("on_roots_list_changed", seen(server.on_roots_list_changed(ctx).await)),
        ("on_initialize", seen(server.on_initialize().await)),
        ("on_shutdown", seen(server.on_shutdown().await)),
    ]
}

/// The methods whose answers differ.
fn differing(answers: &[(&'static str, Value)], bare: &[(&'static str, Value)]) -> Vec<&'static str> {
    assert_eq!(answers.len(), bare.len());
    answers.iter().zip(bare).filter(|(one, other)| one != other).map(|((method, _), _)| *method).collect()
}

async fn answers_as_the_bare_server<H: McpHandler>(wrap: fn(Everything) -> H) {
    let bare = answers(&Everything::default()).await;
    assert_eq!(differing(&answers(&wrap(Everything::default())).await, &bare), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn every_method_answers_as_the_bare_server_does() {
    answers_as_the_bare_server(wrapped).await;
}

async fn fails_as_the_bare_server<H: McpHandler>(wrap: fn(Everything) -> H) {
    let bare = Everything::broken();
    let failures = answers(&bare).await;
    let broken = failures.iter().filter(|(_, answer)| answer.get("kind").is_some()).count();
    assert_eq!(broken, 15, "all that is asynchronous fails: {failures:?}");

    let mut wrapped = answers(&wrap(Everything::broken())).await;
    for (_, answer) in &mut wrapped {
        if let Some(Value::Object(data)) = answer.get_mut("data") {
            // The mark of RetryTool in an exhausted failure.
            data.retain(|name, _| !name.starts_with("mcp-patterns/"));
            if data.is_empty() {
                answer["data"] = Value::Null;
            }
        }
    }
    assert_eq!(differing(&wrapped, &failures), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn every_method_fails_as_the_bare_server_does() {
    fails_as_the_bare_server(wrapped).await;
}

async fn reaches_the_server_once<H: McpHandler>(wrap: fn(Everything) -> H) {
    let bare = Everything::default();
    answers(&bare).await;

    let inner = Everything::default();
    let server = wrap(inner.clone());
    inner.forget();
    answers(&server).await;
    assert_eq!(inner.heard(), bare.heard());
    assert_eq!(inner.heard().len(), 27, "26 methods, and one of them twice");
}

#[tokio::test(start_paused = true)]
async fn every_request_and_notification_reaches_the_server_once_with_its_arguments() {
    reaches_the_server_once(wrapped).await;
}

#[tokio::test(start_paused = true)]
async fn the_answers_are_distinguishable() {
    let answers = answers(&Everything::default()).await;
    let silent = ["subscribe", "unsubscribe", "set_log_level", "on_roots_list_changed", "on_initialize", "on_shutdown"];
    let telling: Vec<_> = answers.iter().filter(|(method, _)| !silent.contains(method)).collect();
    for (at, (method, answer)) in telling.iter().enumerate() {
        assert!(!answer.is_null(), "{method}");
        for (other, same) in &telling[at + 1..] {
            assert_ne!(answer, same, "{method} and {other}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_returns_the_server_below_it() {
    let server: Layered<RetryTool, Everything> = RetryTool::new().layer(Everything::default());
    assert_eq!(server.inner().server_info(), server.server_info());
    assert!(format!("{:?}", server.middleware()).starts_with("RetryTool"));
}
