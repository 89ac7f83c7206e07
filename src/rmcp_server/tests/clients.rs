//! What a tool asks its client, and calls that end early.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use rmcp::ServerHandler;
use serde_json::json;

use super::server::{Client, Tools, request, until};
use crate::rmcp_server::RmcpServer;
use crate::{BatchedTool, CachedTool, Layer, RetryTool, SessionStore};

fn retry_everything() -> RetryTool {
    RetryTool::new().with_base_delay(Duration::from_millis(1)).retry_if(|_| true)
}

#[tokio::test]
async fn each_client_is_asked_itself_and_nothing_of_it_is_kept() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), BatchedTool::new().only(["ask", "input"]), retry_everything())
        .layer(RmcpServer::new(tools.clone()));
    let names = ["Ada", "Bob", "Cleo", "Dan"];
    let clients = join_all(names.map(|name| Client::connect(&stack, name))).await;
    let calls = join_all(clients.iter().map(|client| async {
        let open = async {
            // The first one asks while the others wait for the same answer.
            until(|| tools.seen.calls() > 0).await;
            loop {
                tools.seen.open.notify_waiters();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            text = client.text("ask", json!({})) => text,
            () = open => unreachable!("it never ends"),
        }
    }));
    assert_eq!(calls.await, names.map(|name| format!("Hello {name}")));
    for client in &clients {
        assert_eq!(client.user.asked.load(Ordering::SeqCst), 1, "nobody is asked twice");
    }
    let before = tools.seen.calls();
    tools.seen.open.notify_one();
    assert_eq!(clients[1].text("ask", json!({})).await, "Hello Bob");
    assert_eq!(tools.seen.calls(), before + 1, "an answer that depends on a client is not kept");
}

#[tokio::test]
async fn a_call_that_several_wait_for_survives_the_one_that_began_it() {
    let tools = Tools::new();
    let stack = CachedTool::new().layer(RmcpServer::new(tools.clone()));
    let (first, second) = (Client::connect(&stack, "Ada").await, Client::connect(&stack, "Bob").await);
    let begun = first.service.peer().clone();
    let begun = tokio::spawn(async move { begun.call_tool(request("wait", json!({}))).await });
    until(|| tools.seen.calls() == 1).await;
    let waiting = second.service.peer().clone();
    let waiting = tokio::spawn(async move { waiting.call_tool(request("wait", json!({}))).await });
    // The second call is under way before the first client leaves.
    let state = Arc::clone(&tools.seen);
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(first);
    begun.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    state.open.notify_waiters();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(super::server::text(&answer), "opened: 1");
    assert_eq!((tools.seen.calls(), tools.seen.cancelled.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_call_whose_last_caller_has_cancelled_is_cancelled() {
    let tools = Tools::new();
    cancels(&tools, (CachedTool::new(), RetryTool::new()).layer(RmcpServer::new(tools.clone()))).await;
    let tools = Tools::new();
    cancels(&tools, RetryTool::new().layer(RmcpServer::new(tools.clone()))).await;
    let tools = Tools::new();
    cancels(&tools, SessionStore::in_memory().layer(RmcpServer::new(tools.clone()))).await;
}

/// A client that cancels cancels the call of the tool.
async fn cancels<S: ServerHandler + Clone>(tools: &Tools, stack: S) {
    let client = Client::connect(&stack, "Ada").await;
    let call = client.service.peer().send_cancellable_request(
        rmcp::model::ClientRequest::CallToolRequest(rmcp::model::CallToolRequest::new(request("wait", json!({})))),
        rmcp::service::PeerRequestOptions::no_options(),
    );
    let handle = call.await.unwrap();
    until(|| tools.seen.calls() == 1).await;
    handle.cancel(None).await.unwrap();
    until(|| tools.seen.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_question_that_the_tool_gives_up_is_cancelled_at_the_client() {
    let tools = Tools::new();
    let stack = RetryTool::new().layer(RmcpServer::new(tools.clone()));
    let client = Client::connect(&stack, "Nobody").await;
    let cancelled = async {
        // The call goes on.
        until(|| client.user.cancelled.load(Ordering::SeqCst) == 1).await;
        tools.seen.open.notify_one();
    };
    let (answer, ()) = tokio::join!(client.text("impatient", json!({})), cancelled);
    assert_eq!(answer, "no answer");
}

#[tokio::test]
async fn a_task_that_outlives_its_call_reaches_the_client_of_its_connection_without_progress() {
    let tools = Tools::new();
    let stack = (CachedTool::new(), RetryTool::new()).layer(RmcpServer::new(tools.clone()));
    let (mut ada, bob) = (Client::connect(&stack, "Ada").await, Client::connect(&stack, "Bob").await);
    ada.text("later", json!({})).await;
    // The same peer serves the next call of the connection, and no call of another one.
    assert_eq!(ada.text("progress", json!({})).await, "done at call 2");
    bob.text("weather", json!({"city": "Paris"})).await;
    tools.seen.open.notify_one();
    until(|| ada.user.updates.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bob.user.updates.load(Ordering::SeqCst), 0);
    while let Ok(progress) = ada.progress.try_recv() {
        assert!(progress < 700.0, "progress ends with its call");
    }
}
