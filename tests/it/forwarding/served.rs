//! The same over a transport and through turbomcp's router, as a client sees it.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp::McpHandlerExt;
use turbomcp::turbomcp_client::Client;
use turbomcp_core::{McpHandler, RequestContext};
use turbomcp_server::transport::channel;

use super::everything::{Everything, READ_ONLY};
use super::wrapped;

/// The answers that a client gets, one entry for each request.
async fn seen_by_a_client(server: &impl McpHandler) -> Vec<(&'static str, Value)> {
    let (transport, running) = channel::run_in_process(server).await.expect("the server starts");
    let client = Client::new(transport);
    let hello = client.initialize().await.expect("the session is initialized");
    let name = HashMap::from([("name".to_owned(), json!("Ada"))]);
    let args = Some(HashMap::from([("a".to_owned(), json!(1))]));
    let no_cursor = || None;

    let seen = vec![
        ("initialize", json!([hello.server_info, hello.server_capabilities, hello.instructions])),
        ("ping", json!(client.ping().await.is_ok())),
        ("tools/list", json!(client.list_tools().await.expect("tools"))),
        ("tools/list, one page", json!(client.list_tools_paginated(no_cursor()).await.expect("a page"))),
        ("tools/call", json!(client.call_tool("write", args.clone(), None).await.expect("an answer"))),
        ("tools/call", json!(client.call_tool(READ_ONLY, args, None).await.expect("an answer"))),
        ("resources/list", json!(client.list_resources().await.expect("resources"))),
        ("resources/templates/list", json!(client.list_resource_templates().await.expect("templates"))),
        ("resources/read", json!(client.read_resource("file:///one").await.expect("a resource"))),
        ("resources/subscribe", json!(client.subscribe("file:///two").await.expect("subscribed"))),
        ("resources/unsubscribe", json!(client.unsubscribe("file:///two").await.expect("unsubscribed"))),
        ("prompts/list", json!(client.list_prompts().await.expect("prompts"))),
        ("prompts/get", json!(client.get_prompt("greet", Some(name)).await.expect("a prompt"))),
        ("completion/complete", json!(client.complete_prompt("greet", "name", "A", None).await.expect("completions"))),
        (
            "logging/setLevel",
            json!(client.set_log_level(serde_json::from_value(json!("warning")).expect("a level")).await.is_ok()),
        ),
    ];
    client.shutdown().await.expect("the client stops");
    running.abort();
    seen.into_iter().map(|(request, seen)| (request, without_session(seen))).collect()
}

/// The random session id is not compared.
fn without_session(seen: Value) -> Value {
    match seen {
        Value::String(text) => Value::String(match text.split_once(" in Some(") {
            Some((start, _)) => format!("{start} in a session"),
            None => text,
        }),
        Value::Array(items) => items.into_iter().map(without_session).collect(),
        Value::Object(entries) => entries.into_iter().map(|(name, value)| (name, without_session(value))).collect(),
        other => other,
    }
}

pub(super) async fn is_seen_as_the_bare_server<H: McpHandler>(wrap: fn(Everything) -> H) {
    let bare = seen_by_a_client(&Everything::default()).await;
    assert_eq!(seen_by_a_client(&wrap(Everything::default())).await, bare);

    let of = |request: &str| {
        let (_, seen) = bare.iter().find(|(name, _)| *name == request).expect("it was asked");
        seen.clone()
    };
    let hello = of("initialize");
    assert_eq!(hello[0]["name"], "everything");
    assert_eq!(hello[1]["resources"], json!({ "subscribe": true, "listChanged": true }));
    assert_eq!(hello[1]["completions"], json!({}));
    assert_eq!(hello[1]["logging"], json!({}));
    assert_eq!(hello[2], "Ask for anything.");
    assert_eq!(of("ping"), true);
    assert_eq!(of("logging/setLevel"), true);
    let page = of("tools/list, one page");
    assert_eq!((page["tools"].as_array().map(Vec::len), &page["nextCursor"]), (Some(2), &json!("tools:2")));
    for request in ["tools/list", "resources/list", "resources/templates/list", "prompts/list"] {
        let items = of(request);
        let names: Vec<_> = items.as_array().expect("a list").iter().map(|item| item["name"].clone()).collect();
        assert_eq!(names.last(), Some(&json!("private")), "{request} is answered for the caller");
        assert_eq!(names.len(), 4, "{request} goes through all pages");
    }
    assert!(of("completion/complete").to_string().contains("Alan"));
    assert!(of("resources/read").to_string().contains("read_resource file:///one"));
    assert!(of("prompts/get").to_string().contains("get_prompt greet"));
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_the_same_as_of_the_bare_server() {
    is_seen_as_the_bare_server(wrapped).await;
}

pub(super) async fn hears_a_notification<H: McpHandler>(wrap: fn(Everything) -> H) {
    let inner = Everything::default();
    let (transport, running) = channel::run_in_process(&wrap(inner.clone())).await.expect("the server starts");
    let client = Client::new(transport);
    client.initialize().await.expect("the session is initialized");
    client.notify_roots_list_changed().await.expect("it is sent");

    let heard = || inner.heard().iter().filter(|heard| heard.starts_with("on_roots_list_changed")).count();
    let delivered = async {
        while heard() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), delivered).await.expect("it is delivered");
    assert_eq!(heard(), 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_notification_reaches_the_server() {
    hears_a_notification(wrapped).await;
}

pub(super) async fn is_initialized_and_shut_down_once<H: McpHandler>(wrap: fn(Everything) -> H) {
    let inner = Everything::default();
    let server = wrap(inner.clone());
    inner.forget();
    let (transport, running) = channel::run_in_process(&server).await.expect("the server starts");
    drop(transport);
    running.await.expect("the server does not panic").expect("the server stops");
    assert_eq!(inner.heard(), ["on_initialize", "on_shutdown"]);
}

#[tokio::test(start_paused = true)]
async fn a_running_server_is_initialized_once_and_shut_down_once() {
    is_initialized_and_shut_down_once(wrapped).await;
}

pub(super) async fn reports_that_it_cannot_start<H: McpHandler>(wrap: fn(Everything) -> H) {
    let refused = channel::run_in_process(&wrap(Everything::broken())).await.expect_err("it is broken");
    assert_eq!(refused.message, "on_initialize is broken");
}

#[tokio::test(start_paused = true)]
async fn the_start_up_error_of_a_server_passes_through_its_layers() {
    reports_that_it_cannot_start(wrapped).await;
}

/// The answers to every request of the router.
async fn routed(server: &impl McpHandler) -> Vec<Value> {
    let requests = [
        (
            "initialize",
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}),
        ),
        ("ping", json!({})),
        ("tools/list", json!({})),
        ("tools/list", json!({"cursor": "tools:2"})),
        ("tools/call", json!({"name": "write", "arguments": {"a": 1}})),
        ("tools/call", json!({"name": READ_ONLY, "arguments": {"a": 1}})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({"uri": "file:///one"})),
        ("resources/subscribe", json!({"uri": "file:///one"})),
        ("resources/unsubscribe", json!({"uri": "file:///one"})),
        ("prompts/list", json!({})),
        ("prompts/get", json!({"name": "greet", "arguments": {"name": "Ada"}})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "A"}}),
        ),
        ("logging/setLevel", json!({"level": "warning"})),
        ("tasks/list", json!({"cursor": "page 2"})),
        ("tasks/get", json!({"taskId": "t1"})),
        ("tasks/cancel", json!({"taskId": "t2"})),
        ("tasks/result", json!({"taskId": "t3"})),
    ];
    let mut answers = Vec::new();
    for (id, (method, params)) in requests.into_iter().enumerate() {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let ctx = RequestContext::with_id("request").with_session_id("session");
        answers.push(server.handle_request(request, ctx).await.expect("an answer"));
    }
    answers
}

pub(super) async fn is_routed_as_the_bare_server<H: McpHandler>(wrap: fn(Everything) -> H) {
    let bare = routed(&Everything::default()).await;
    for answer in &bare {
        assert!(answer.get("result").is_some(), "{answer}");
    }
    assert_eq!(routed(&wrap(Everything::default())).await, bare);
}

#[tokio::test(start_paused = true)]
async fn the_router_answers_every_request_as_for_the_bare_server() {
    is_routed_as_the_bare_server(wrapped).await;
}
