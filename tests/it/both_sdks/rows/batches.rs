//! Calls that travel together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mcp_patterns::BatchedTool;
use mcp_patterns::batched::Call;
use serde_json::json;
use turbomcp_core::McpError;
use turbomcp_types::ToolResult;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, text};

/// Answers all calls at once, and those about `b` with a failure.
fn batched() -> (BatchedTool, Arc<AtomicU32>) {
    let batches = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&batches);
    let batched =
        BatchedTool::new().with_max_delay(Duration::from_millis(20)).with_bulk("read", move |calls: Vec<Call>| {
            seen.fetch_add(1, Ordering::SeqCst);
            async move {
                let answer = |call: Call| match call.args["topic"].as_str() {
                    Some("b") => Err(McpError::invalid_request("never")),
                    topic => Ok(ToolResult::text(format!("all about {}", topic.unwrap_or_default()))),
                };
                Ok(calls.into_iter().map(answer).collect())
            }
        });
    (batched, batches)
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn many_calls_are_one_batch_and_each_has_its_own_answer() {
        let (script, (batched, batches)) = (Script::new(), batched());
        let server = serve(&script, batched);
        let clients = [server.client("ada").await, server.client("ada").await, server.client("ada").await];
        let calls = clients.iter().zip(["a", "b", "c"]).map(|(client, topic)| client.call("read", json!({"topic": topic})));
        let answers: Vec<_> = join_all(calls).await.iter().map(text).collect();
        assert_eq!(answers, ["all about a", "never", "all about c"]);
        assert_eq!((batches.load(Ordering::SeqCst), script.calls("read")), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_alone_is_a_batch_after_the_longest_delay() {
        let (script, (batched, batches)) = (Script::new(), batched());
        let client = serve(&script, batched).client("ada").await;
        assert_eq!(text(&client.call("read", json!({"topic": "a"})).await), "all about a");
        assert_eq!(batches.load(Ordering::SeqCst), 1);
    }
}
