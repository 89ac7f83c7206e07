//! Calls that are repeated.

use std::time::Duration;

use mcp_patterns::{RetryTool, outcome};
use serde_json::json;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, mark, text};

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn a_temporary_failure_is_repeated_and_the_answer_says_how_often() {
        let script = Script::new();
        let client = serve(&script, RetryTool::new()).client("ada").await;
        let answer = client.call("flaky", json!({})).await;
        assert_eq!((text(&answer), mark(&answer, outcome::ATTEMPTS)), ("flaky: 3".into(), json!(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_repeated_in_either_form() {
        let script = Script::new();
        let client = serve(&script, RetryTool::new()).client("ada").await;
        for how in ["error", "result"] {
            assert_eq!(text(&client.call("broken", json!({"how": how})).await), "never");
        }
        assert_eq!(script.calls("broken"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_may_write_is_not_called_again() {
        let script = Script::new();
        let client = serve(&script, RetryTool::new()).client("ada").await;
        assert_eq!(text(&client.call("send", json!({})).await), "down");
        assert_eq!(script.calls("send"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_to_the_end_says_that_it_was_repeated_in_vain() {
        let script = Script::new();
        let retry = RetryTool::new().with_max_attempts(2);
        let answer = serve(&script, retry).client("ada").await.call("flaky", json!({})).await;
        assert_eq!(mark(&answer, outcome::EXHAUSTED), json!("attempts"));
        assert_eq!(mark(&answer, outcome::ATTEMPTS), json!(2));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_rises_from_attempt_to_attempt() {
        let script = Script::new();
        let retry = RetryTool::new().with_base_delay(Duration::from_millis(1));
        let client = serve(&script, retry).client("ada").await;
        assert_eq!(text(&client.call("steps", json!({})).await), "steps: 2");
        assert_eq!(client.progress().await, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
