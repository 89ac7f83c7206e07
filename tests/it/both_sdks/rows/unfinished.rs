//! Answers that are not complete.

use std::time::Duration;

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::outcome::{self, ErrorKind, Unfinished};
use mcp_patterns::{BatchedTool, CachedTool, IdempotentTool, RetryTool};
use serde_json::json;

use crate::both_sdks::in_both_columns;
use crate::both_sdks::script::Script;

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn an_unfinished_answer_passes_and_is_not_kept_or_repeated() {
        let script = Script::new();
        let kinds = [ErrorKind::UrlElicitationRequired, ErrorKind::ToolExecutionFailed];
        let layers = (
            CachedTool::new().with_negative_ttl(kinds, Duration::from_secs(60)),
            BatchedTool::new().only(["input", "task"]),
            RetryTool::new().retry_if(|_| true),
        );
        let client = serve(&script, layers).continuing_client().await;
        for (tool, reason) in [("input", Unfinished::InputRequired), ("task", Unfinished::Task)] {
            for calls in 1..=2 {
                let answer = client.call(tool, json!({})).await;
                assert_eq!(outcome::failure(&answer).and_then(|failure| failure.unfinished()), Some(reason));
                assert_eq!(script.calls(tool), calls);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_frees_its_key_and_a_task_is_the_answer_of_its_key() {
        let script = Script::new();
        let keyed = IdempotentTool::new(MemoryBackend::new()).only(["input", "task"]);
        let client = serve(&script, keyed).continuing_client().await;
        for (tool, calls) in [("input", 3), ("task", 1)] {
            for _ in 0..3 {
                let answer = client.call(tool, json!({"idempotency_key": "k"})).await;
                assert!(outcome::failure(&answer).is_some_and(|failure| failure.unfinished().is_some()));
            }
            assert_eq!(script.calls(tool), calls, "{tool}");
        }
    }
}
