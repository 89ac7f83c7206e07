//! `RetryTool` outside: calls with a key are made again if that is known to be safe.

use super::*;
use crate::RetryTool;

#[tokio::test(start_paused = true)]
async fn a_call_with_a_key_is_retried_and_takes_effect_once() {
    let effects = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ledger = Arc::clone(&effects);
    let post = ScriptedServer::new("post").with_plain("send", move |call| {
        if call.number < 3 {
            return ready(Err(McpError::unavailable("closed")));
        }
        ledger.lock().unwrap().push(call.args);
        ready(Ok(sent(call.number)))
    });
    let server = (RetryTool::new(), memory()).layer(post.clone());
    let answer = send(&server, "k").await;
    assert_eq!(text(&answer), "sent 3");
    assert_eq!(answer.unwrap().meta.unwrap()["mcp-patterns/attempts"], 3);
    assert_eq!(text(&send(&server, "k").await), "sent 3");
    assert_eq!(*effects.lock().unwrap(), [json!({"to": "ada"})]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_key_is_not_retried() {
    let post = stumbling_post(McpError::unavailable("closed"));
    let server = (RetryTool::new(), memory()).layer(post.clone());
    let answer = server.call_tool("send", json!({"to": "ada"}), &RequestContext::new()).await;
    assert_eq!(text(&answer), "closed");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_with_an_unknown_outcome_is_not_retried() {
    let post = stumbling_post(McpError::timeout("no answer"));
    let server = (RetryTool::new(), memory()).layer(post.clone());
    assert!(is_ambiguous(&send(&server, "k").await), "the retry finds the call ambiguous");
    assert_eq!(post.calls("send"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retried_duplicate_gets_the_answer_of_the_running_first_call() {
    let post = ScriptedServer::new("post").with_plain("send", |call| async move {
        tokio::time::sleep(secs(8)).await;
        Ok(sent(call.number))
    });
    let server = (RetryTool::new(), memory()).layer(post.clone());
    let first = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "k").await }
    });
    settle().await;
    let duplicate = send(&server, "k").await;
    assert_eq!((text(&duplicate), told(&duplicate)), ("sent 1".into(), json!("replayed")));
    assert_eq!(text(&first.await.unwrap()), "sent 1");
    assert_eq!(post.calls("send"), 1);
}
