//! Calls above a limit.

use std::time::Duration;

use mcp_patterns::limited::{Concurrency, Per, Rate};
use mcp_patterns::{LimitedTool, RetryTool, outcome};
use serde_json::json;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, mark, text};

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn a_call_above_the_rate_of_its_caller_is_refused_and_says_when_it_passes() {
        let script = Script::new();
        let server = serve(&script, LimitedTool::new().with_rate(Per::Principal, Rate::per_minute(1)));
        let (ada, bob) = (server.client("ada").await, server.client("bob").await);
        assert_eq!(text(&ada.call("read", json!({"topic": "tea"})).await), "read tea: 1");
        let refused = server.client("ada").await.call("read", json!({"topic": "tea"})).await;
        assert_eq!(mark(&refused, outcome::LIMIT), json!("rate"), "over another connection, too");
        assert!(mark(&refused, "retryAfterMs").as_u64().is_some_and(|millis| millis > 50_000), "{refused:?}");
        assert_eq!(text(&bob.call("read", json!({"topic": "tea"})).await), "read tea: 2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_outside_waits_until_the_limit_lets_it_through() {
        let script = Script::new();
        let limits = LimitedTool::new().with_rate(Per::Tool, Rate::per_second(1));
        let client = serve(&script, (RetryTool::new(), limits)).client("ada").await;
        for number in 1..=3 {
            assert_eq!(text(&client.call("read", json!({"topic": "tea"})).await), format!("read tea: {number}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_a_place_as_soon_as_another_one_ends_or_leaves() {
        let script = Script::new();
        let limits = LimitedTool::new().with_concurrency(Per::Tool, Concurrency::new(1));
        let server = serve(&script, limits);
        let client = server.client("ada").await;
        let running = client.start("slow", json!({})).await;
        while script.calls("slow") < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(mark(&server.client("bob").await.call("slow", json!({})).await, outcome::LIMIT), json!("busy"));
        running.cancel().await;
        while script.ended_early() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        script.open(1);
        let next = async {
            loop {
                let answer = client.call("slow", json!({})).await;
                if mark(&answer, outcome::LIMIT).is_null() {
                    return text(&answer);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert_eq!(next.await, "slow: 2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_ended_and_its_tool_with_it() {
        let script = Script::new();
        let limits = LimitedTool::new().with_timeout(Duration::from_millis(100));
        let answer = serve(&script, limits).client("ada").await.call("slow", json!({})).await;
        assert_eq!(mark(&answer, outcome::LIMIT), json!("timed_out"));
        while script.ended_early() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
