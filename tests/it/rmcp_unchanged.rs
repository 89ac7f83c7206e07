//! Servers as the examples of rmcp have them, under all layers: every message that a client gets is the same as without layers, but for
//! the documented entries of `_meta`.
//!
//! The [client](wire) reads and writes the messages themselves, so that nothing is lost in types.

mod server;
mod wire;

use mcp_patterns::cached::Reads;
use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::rmcp_server::RmcpStack;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, RmcpServer, SessionStore, TransactionalTool,
    ValidatedTool,
};
use rmcp::ServerHandler;
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePoolOptions;

use self::server::Examples;
use self::wire::{Lifecycle, Wire};
use crate::whole::shop::own;

/// A request, with the answer to it and all other messages that come with it.
type Heard = (Value, Vec<Value>);

/// All layers, each on as many tools as it can act on.
async fn layered() -> impl RmcpStack + ServerHandler {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("a database");
    TransactionalTool::ensure_schema(&pool).await.expect("a table of keys");
    // A task cannot be a part of a transaction, which the page on rmcp says.
    let transactional = TransactionalTool::new(pool).every_write().except(["task", "increment", "decrement"]);
    let inner = (
        BatchedTool::new().only(["sum", "rich"]),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).only(["task", "increment", "decrement"]),
        transactional,
    );
    let outer = (
        own(),
        ValidatedTool::new(),
        SessionStore::in_memory().optional(),
        CachedTool::new().with_resources(Reads::new()).with_prompts(Reads::new()),
    );
    outer.layer(inner.layer(RmcpServer::new(Examples::new())))
}

async fn hears(mut wire: Wire, requests: &[Value]) -> Vec<Heard> {
    let mut heard = Vec::new();
    for request in requests {
        heard.push((request.clone(), wire.ask(request.clone()).await));
    }
    heard
}

/// Runs the conversation with the bare server and with the layered one, and compares what the client hears.
async fn is_same(lifecycle: Lifecycle, requests: &[Value]) {
    let bare = hears(Wire::connect(Examples::new(), lifecycle).await, requests).await;
    let layered = hears(Wire::connect(layered().await, lifecycle).await, requests).await;
    for ((request, bare), (_, layered)) in bare.iter().zip(&layered) {
        assert_eq!(bare, layered, "{request}");
        assert!(!bare.is_empty(), "{request} has an answer");
    }
}

fn call(tool: &str, args: &Value) -> Value {
    json!({"method": "tools/call", "params": {"name": tool, "arguments": args}})
}

#[tokio::test]
async fn a_counter_counts_and_its_failures_are_the_same() {
    let requests = [
        call("increment", &json!({})),
        call("increment", &json!({})),
        call("decrement", &json!({})),
        call("get_value", &json!({})),
        call("sum", &json!({"a": 2, "b": 3})),
        call("echo", &json!({"deep": [1, 2.5, null, {"a": "b"}]})),
        call("rich", &json!({})),
        call("fail", &json!({"how": "result"})),
        call("fail", &json!({"how": "params"})),
        call("fail", &json!({"how": "internal"})),
        call("fail", &json!({"how": "own"})),
        json!({"method": "tools/call", "params": {"name": "get_value"}}),
        json!({"method": "ping"}),
        json!({"method": "examples/unknown", "params": {"a": 1}}),
        json!({"method": "examples/custom", "params": {"a": 1}}),
    ];
    is_same(Lifecycle::Initialize, &requests).await;
    is_same(Lifecycle::Discover, &requests).await;
}

#[tokio::test]
async fn prompts_resources_templates_and_completions_are_the_same() {
    let read = |uri: &str| json!({"method": "resources/read", "params": {"uri": uri}});
    let prompt =
        |name: &str, args: Value| json!({"method": "prompts/get", "params": {"name": name, "arguments": args}});
    let complete = |value: &str| {
        let argument = json!({"name": "name", "value": value});
        let of = json!({"type": "ref/prompt", "name": "greet"});
        json!({"method": "completion/complete", "params": {"ref": of, "argument": argument}})
    };
    let requests = [
        json!({"method": "prompts/list"}),
        prompt("greet", json!({"name": "Ada"})),
        prompt("greet", json!({"name": "Ada"})),
        prompt("greet", json!({})),
        prompt("missing", json!({})),
        json!({"method": "resources/list"}),
        json!({"method": "resources/templates/list"}),
        read("memo://text"),
        read("memo://text"),
        read("memo://blob"),
        read("memo://missing"),
        complete("A"),
        complete("Z"),
    ];
    is_same(Lifecycle::Initialize, &requests).await;
    is_same(Lifecycle::Discover, &requests).await;
}

#[tokio::test]
async fn subscriptions_logs_and_progress_are_the_same() {
    let of = |method: &str| json!({"method": method, "params": {"uri": "memo://text"}});
    let mut process = call("process", &json!({}));
    process["params"]["_meta"] = json!({"progressToken": "mine"});
    let requests = [
        of("resources/subscribe"),
        call("touch", &json!({})),
        of("resources/unsubscribe"),
        call("touch", &json!({})),
        json!({"method": "logging/setLevel", "params": {"level": "warning"}}),
        call("log", &json!({})),
        process,
        call("process", &json!({})),
        call("announce", &json!({})),
    ];
    is_same(Lifecycle::Initialize, &requests).await;
}

#[tokio::test]
async fn questions_to_the_client_are_the_same() {
    let requests = ["greet_user", "ask_llm", "list_roots", "capabilities"].map(|tool| call(tool, &json!({})));
    is_same(Lifecycle::Initialize, &requests).await;
}

#[tokio::test]
async fn tasks_are_the_same() {
    let of = |method: &str| json!({"method": method, "params": {"taskId": "task-1"}});
    let requests = [
        call("task", &json!({})),
        of("tasks/get"),
        json!({"method": "tasks/update", "params": {"taskId": "task-1", "inputResponses": {}}}),
        of("tasks/cancel"),
        of("tasks/get"),
        json!({"method": "tasks/get", "params": {"taskId": "missing"}}),
    ];
    is_same(Lifecycle::Discover, &requests).await;
}

#[tokio::test]
async fn the_rounds_of_an_answer_that_needs_input_are_the_same() {
    let mut second = call("order", &json!({}));
    second["params"]["requestState"] = json!("size");
    second["params"]["inputResponses"] = json!({"size": {"action": "accept", "content": {"size": "large"}}});
    let mut third = second.clone();
    third["params"]["requestState"] = json!("confirm large");
    third["params"]["inputResponses"] = json!({"confirm": {"action": "accept", "content": {"yes": true}}});
    let first = call("order", &json!({}));
    is_same(Lifecycle::Discover, &[first.clone(), second.clone(), third.clone(), first, second, third]).await;
}

#[tokio::test]
async fn the_tools_differ_only_by_the_arguments_that_layers_add() {
    let list = [json!({"method": "tools/list"})];
    let tools = |heard: &[Heard]| -> Vec<Value> {
        let [(_, answers)] = heard else { panic!("one request") };
        answers[0]["result"]["tools"].as_array().cloned().expect("tools")
    };
    let bare = tools(&hears(Wire::connect(Examples::new(), Lifecycle::Initialize).await, &list).await);
    let layered = tools(&hears(Wire::connect(layered().await, Lifecycle::Initialize).await, &list).await);
    assert_eq!(bare.len(), layered.len());
    for (bare, mut layered) in bare.into_iter().zip(layered) {
        let has_key = layered["inputSchema"]["properties"]["idempotency_key"].is_object();
        if has_key {
            let properties = layered["inputSchema"]["properties"].as_object_mut().expect("properties");
            properties.remove("idempotency_key");
            if properties.is_empty() && bare["inputSchema"].get("properties").is_none() {
                layered["inputSchema"].as_object_mut().expect("a schema").remove("properties");
            }
        }
        // The documented entry: where the key comes from.
        layered.as_object_mut().expect("a tool").remove("_meta");
        assert_eq!(bare, layered);
    }
}
