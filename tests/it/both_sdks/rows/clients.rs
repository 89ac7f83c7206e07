//! Questions to clients, and clients that leave.

use std::time::Duration;

use mcp_patterns::{BatchedTool, CachedTool, RetryTool};
use serde_json::json;
use tokio::time::sleep;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, text};

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn a_question_goes_to_the_client_of_the_call_and_its_answer_is_shared_with_nobody() {
        let script = Script::new();
        let layers = (CachedTool::new(), BatchedTool::new().only(["ask"]), RetryTool::new().retry_if(|_| true));
        let server = serve(&script, layers);
        // Two connections of one user, who would share an answer.
        let clients = [server.client("").await, server.client("").await];
        let first = clients[0].start("ask", json!({})).await;
        sleep(Duration::from_millis(50)).await;
        let calls = [first, clients[1].start("ask", json!({})).await];
        sleep(Duration::from_millis(50)).await;
        assert_eq!(script.calls("ask"), 1, "they wait for one call");
        script.open(10);
        let mut numbers = Vec::new();
        for call in calls {
            numbers.push(text(&call.answer().await));
        }
        assert_eq!(numbers, [r#""" at 1"#, r#""" at 2"#]);
        assert_eq!([clients[0].asked(), clients[1].asked()], [1, 1]);
        let _ = clients[0].call("ask", json!({})).await;
        assert_eq!(script.calls("ask"), 3, "nothing was kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_its_client_cancels_is_cancelled() {
        let script = Script::new();
        let client = serve(&script, (CachedTool::new(), RetryTool::new())).client("ada").await;
        let call = client.start("slow", json!({})).await;
        sleep(Duration::from_millis(50)).await;
        call.cancel().await;
        sleep(Duration::from_millis(200)).await;
        assert_eq!((script.calls("slow"), script.ended_early()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_starter_who_leaves_takes_no_follower_along() {
        let script = Script::new();
        let server = serve(&script, (CachedTool::new(), BatchedTool::new().only(["slow"]), RetryTool::new()));
        let (starter, follower) = (server.client("ada").await, server.client("ada").await);
        let started = starter.start("slow", json!({})).await;
        sleep(Duration::from_millis(50)).await;
        let follows = follower.start("slow", json!({})).await;
        sleep(Duration::from_millis(50)).await;
        started.cancel().await;
        sleep(Duration::from_millis(200)).await;
        script.open(1);
        assert_eq!(text(&follows.answer().await), "slow: 1");
        assert_eq!((script.calls("slow"), script.ended_early()), (1, 0));
    }
}
