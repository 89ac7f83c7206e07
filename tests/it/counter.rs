//! The counter example, through a real client.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rmcp::{
    ServiceError,
    model::{CallToolResult, ErrorCode},
};
use serde_json::{Value, json};

use crate::client::{Client, Server, Transport, arguments, error_text, over_stdio_and_http, patiently, text};

over_stdio_and_http! {
    initialize_names_the_server_and_its_version,
    tools_are_listed_with_their_annotations,
    tools_are_listed_with_their_schemas,
    increment_answers_the_next_value,
    counters_of_different_names_are_independent,
    get_answers_0_for_a_counter_that_does_not_exist,
    get_answers_the_last_value,
    reset_confirms_and_the_counter_starts_over,
    a_wrong_argument_is_a_tool_error_with_the_reason,
    a_blank_name_is_a_tool_error,
    an_unknown_tool_is_a_protocol_error,
    concurrent_increments_of_one_connection_lose_nothing,
}

async fn counter(transport: Transport) -> (Server, Client) {
    let mut server = Server::start("counter", transport, &[]).await;
    let client = server.connect().await;
    (server, client)
}

fn value(result: &CallToolResult) -> i64 {
    text(result).parse().expect("the value is a number")
}

async fn initialize_names_the_server_and_its_version(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let answer = client.server();
    let info = answer.server_info.expect("the server names itself");
    assert_eq!((info.name.as_str(), info.version.as_str()), ("counter", "1.0.0"));
    assert!(answer.capabilities.tools.is_some());
}

async fn tools_are_listed_with_their_annotations(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let annotations: Value =
        client.tools().await.into_iter().map(|tool| (tool.name.into_owned(), json!(tool.annotations))).collect();
    assert_eq!(
        annotations,
        json!({
            "increment": {
                "readOnlyHint": false,
                "destructiveHint": false,
                "idempotentHint": false,
                "openWorldHint": false,
            },
            "get": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
            "reset": {
                "readOnlyHint": false,
                "destructiveHint": true,
                "idempotentHint": true,
                "openWorldHint": false,
            },
            "increment_mine": {
                "readOnlyHint": false,
                "destructiveHint": false,
                "idempotentHint": false,
                "openWorldHint": false,
            },
            "get_mine": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
            "set_preference": {
                "readOnlyHint": false,
                "destructiveHint": false,
                "idempotentHint": true,
                "openWorldHint": false,
            },
            "get_preference": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
        })
    );
}

async fn tools_are_listed_with_their_schemas(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let tools = client.tools().await;
    assert_eq!(tools.len(), 7);
    for tool in tools {
        let (types, required) = arguments(&tool);
        let expected: &[&str] = match tool.name.as_ref() {
            "set_preference" => &["key", "value"],
            "get_preference" => &["key"],
            _ => &["name"],
        };
        let string = json!("string");
        assert_eq!(types, expected.iter().map(|name| (*name, &string)).collect::<Vec<_>>(), "{}", tool.name);
        assert_eq!(required, &json!(expected), "{}", tool.name);
        assert_eq!(tool.input_schema["additionalProperties"], json!(false));
    }
}

async fn increment_answers_the_next_value(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let first = client.call("increment", json!({ "name": "x" })).await;
    assert_eq!(text(&first), "1");
    let second = client.call("increment", json!({ "name": "x" })).await;
    assert_eq!(text(&second), "2");
}

async fn counters_of_different_names_are_independent(transport: Transport) {
    let (_server, client) = counter(transport).await;

    client.call("increment", json!({ "name": "x" })).await;
    let other = client.call("increment", json!({ "name": "y" })).await;
    assert_eq!(text(&other), "1");
}

async fn get_answers_0_for_a_counter_that_does_not_exist(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let missing = client.call("get", json!({ "name": "x" })).await;
    assert_eq!(text(&missing), "0");
}

async fn get_answers_the_last_value(transport: Transport) {
    let (_server, client) = counter(transport).await;

    for expected in ["1", "2"] {
        client.call("increment", json!({ "name": "x" })).await;
        let read = client.call("get", json!({ "name": "x" })).await;
        assert_eq!(text(&read), expected);
    }
}

async fn reset_confirms_and_the_counter_starts_over(transport: Transport) {
    let (_server, client) = counter(transport).await;

    client.call("increment", json!({ "name": "x" })).await;
    let reset = client.call("reset", json!({ "name": "x" })).await;
    assert_eq!(text(&reset), "Counter 'x' reset");
    let read = client.call("get", json!({ "name": "x" })).await;
    assert_eq!(text(&read), "0");
    let again = client.call("increment", json!({ "name": "x" })).await;
    assert_eq!(text(&again), "1");
}

async fn a_wrong_argument_is_a_tool_error_with_the_reason(transport: Transport) {
    let (_server, client) = counter(transport).await;

    for (arguments, culprit) in [
        (json!({}), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "name": "x", "step": 2 }), "step"),
    ] {
        for tool in ["increment", "get", "reset"] {
            let result = client.call(tool, arguments.clone()).await;
            let sentence = error_text(&result);
            assert!(sentence.contains(culprit), "{tool}({arguments}): {sentence}");
        }
    }
    let read = client.call("get", json!({ "name": "x" })).await;
    assert_eq!(text(&read), "0", "a refused call changes nothing");
}

async fn a_blank_name_is_a_tool_error(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let blank = client.call("increment", json!({ "name": " " })).await;
    assert!(error_text(&blank).contains("name"), "{blank:?}");
}

async fn an_unknown_tool_is_a_protocol_error(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let unknown = client.try_call("decrement", json!({ "name": "x" })).await;
    match unknown {
        Err(ServiceError::McpError(error)) => {
            assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
            assert!(error.message.contains("decrement"), "{}", error.message);
        }
        other => panic!("a protocol error was expected, not {other:?}"),
    }
}

async fn concurrent_increments_of_one_connection_lose_nothing(transport: Transport) {
    let (_server, client) = counter(transport).await;

    let calls = (0..200).map(|_| client.call("increment", json!({ "name": "x" })));
    let values: BTreeSet<i64> = join_all(calls).await.iter().map(value).collect();
    assert_eq!(values, (1..=200).collect());

    let last = client.call("get", json!({ "name": "x" })).await;
    assert_eq!(text(&last), "200");
}

#[tokio::test]
async fn concurrent_increments_of_four_http_sessions_lose_nothing() {
    patiently(async {
        let mut server = Server::start("counter", Transport::Http, &[]).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(server.connect().await);
        }

        let calls = clients.iter().flat_map(|client| (0..50).map(|_| client.call("increment", json!({ "name": "x" }))));
        let values: BTreeSet<i64> = join_all(calls).await.iter().map(value).collect();
        assert_eq!(values, (1..=200).collect());

        for client in &clients {
            let last = client.call("get", json!({ "name": "x" })).await;
            assert_eq!(text(&last), "200");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stdio_server_exits_cleanly_when_its_stdin_is_closed() {
    patiently(async {
        let (mut server, client) = counter(Transport::Stdio).await;
        client.call("increment", json!({ "name": "x" })).await;

        client.close().await;
        let status = server.ended().await;
        assert!(status.success(), "{status}");
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn an_http_server_exits_cleanly_on_sigterm_with_an_open_session() {
    patiently(async {
        let (mut server, client) = counter(Transport::Http).await;
        client.call("increment", json!({ "name": "x" })).await;

        server.terminate();
        let status = server.ended().await;
        assert!(status.success(), "{status}");
    })
    .await;
}
