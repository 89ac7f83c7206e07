//! Answers that are not complete.

use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::CallToolResponse;
use serde_json::{Value, json};

use super::server::{Client, Tools, request, text, until};
use crate::idempotent::MemoryBackend;
use crate::outcome::ErrorKind;
use crate::rmcp_server::RmcpServer;
use crate::{BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool};

const KEY: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

async fn once(client: &Client, tool: &'static str, args: Value) -> CallToolResponse {
    client.service.peer().call_tool_once(request(tool, args)).await.unwrap()
}

#[tokio::test]
async fn a_question_in_an_answer_passes_untouched_and_is_not_kept_or_repeated() {
    let tools = Tools::new();
    let bare = Client::connect_without_handshake(&Tools::new(), "Ada").await;
    let stack = (
        CachedTool::new(),
        BatchedTool::new().only(["ask", "input"]),
        RetryTool::new().with_base_delay(Duration::from_millis(1)).retry_if(|_| true),
    )
        .layer(RmcpServer::new(tools.clone()));
    let layered = Client::connect_without_handshake(&stack, "Ada").await;
    for calls in 1..=2 {
        let expected = once(&bare, "input", json!({})).await;
        assert_eq!(format!("{:?}", once(&layered, "input", json!({})).await), format!("{expected:?}"));
        assert_eq!(tools.seen.calls(), calls);
    }
}

#[tokio::test]
async fn an_answered_question_is_the_callers_alone() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), BatchedTool::new().only(["ask", "input"])).layer(RmcpServer::new(tools.clone()));
    let ada = Client::connect_without_handshake(&stack, "Ada").await;
    let bob = Client::connect_without_handshake(&stack, "Bob").await;
    assert_eq!(ada.text("input", json!({})).await, "Ada at call 2");
    assert_eq!(bob.text("input", json!({})).await, "Bob at call 4");
    assert_eq!(ada.text("input", json!({})).await, "Ada at call 6");
}

#[tokio::test]
async fn callers_who_wait_for_a_call_that_asks_for_input_call_for_themselves() {
    let tools = Tools::new();
    let stack = CachedTool::new().layer(RmcpServer::new(tools.clone()));
    let names = ["Ada", "Bob", "Cleo"];
    let clients = join_all(names.map(|name| Client::connect_without_handshake(&stack, name))).await;
    let calls = join_all(clients.iter().map(|client| once(client, "slow_input", json!({}))));
    let opened = async {
        until(|| tools.seen.calls() == 1).await;
        // The others wait for the first call, and then for their own.
        until(|| {
            tools.seen.open.notify_waiters();
            tools.seen.calls() == 3
        })
        .await;
        loop {
            tools.seen.open.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    let answers = tokio::select! {
        answers = calls => answers,
        () = opened => unreachable!("it never ends"),
    };
    let mut states: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            CallToolResponse::InputRequired(answer) => answer.request_state.unwrap(),
            other => panic!("no question: {other:?}"),
        })
        .collect();
    states.sort();
    assert_eq!(states, ["state 1", "state 2", "state 3"], "each caller has a state of its own");
}

#[tokio::test]
async fn a_question_is_not_kept_as_a_failure() {
    let tools = Tools::new();
    let kinds = [ErrorKind::UrlElicitationRequired, ErrorKind::ToolExecutionFailed];
    let stack =
        CachedTool::new().with_negative_ttl(kinds, Duration::from_secs(60)).layer(RmcpServer::new(tools.clone()));
    let client = Client::connect_without_handshake(&stack, "Ada").await;
    for calls in 1..=3 {
        once(&client, "input", json!({})).await;
        assert_eq!(tools.seen.calls(), calls);
    }
}

#[tokio::test]
async fn a_question_frees_the_key_of_its_call_and_the_answer_is_recorded() {
    let tools = Tools::new();
    let stack = IdempotentTool::new(MemoryBackend::new()).only(["input"]).layer(RmcpServer::new(tools.clone()));
    let client = Client::connect_without_handshake(&stack, "Ada").await;
    let args = json!({"idempotency_key": KEY});
    assert_eq!(client.text("input", args.clone()).await, "Ada at call 2");
    // The answer is that of the key, whatever comes with the call.
    let CallToolResponse::Complete(again) = once(&client, "input", args).await else { panic!("it has an answer") };
    assert_eq!(text(&again), "Ada at call 2");
}

#[tokio::test]
async fn a_key_whose_call_became_a_task_gets_the_same_task() {
    let tools = Tools::new();
    let stack = IdempotentTool::new(MemoryBackend::new()).only(["task"]).layer(RmcpServer::new(tools.clone()));
    let client = Client::connect_without_handshake(&stack, "Ada").await;
    for _ in 0..2 {
        let CallToolResponse::Task(task) = once(&client, "task", json!({"idempotency_key": KEY})).await else {
            panic!("it is a task");
        };
        assert_eq!(task.task.task_id, "task-1");
    }
    assert_eq!(tools.seen.calls(), 1);
}
