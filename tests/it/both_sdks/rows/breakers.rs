//! Calls of tools whose service fails.

use std::time::Duration;

use mcp_patterns::{BreakerTool, RetryTool, outcome};
use serde_json::json;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, mark, text};

const PAUSE: Duration = Duration::from_secs(5);

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn five_failures_in_either_form_open_a_breaker_and_a_probe_closes_it() {
        for how in ["error", "result"] {
            let script = Script::new();
            let breaker = BreakerTool::new().with_group("service", ["fail", "read"]);
            let server = serve(&script, breaker);
            let client = server.client("ada").await;
            for number in 1..=5 {
                let failed = client.call("fail", json!({"kind": "unavailable", "how": how})).await;
                assert_eq!(text(&failed), format!("Unavailable at {number}"));
            }
            let refused = server.client("bob").await.call("read", json!({"topic": "tea"})).await;
            assert_eq!(mark(&refused, outcome::BREAKER), json!("open"), "over another connection, too: {refused:?}");
            assert_eq!(mark(&refused, outcome::EXHAUSTED), json!("breaker"));
            assert!(mark(&refused, "retryAfterMs").as_u64().is_some_and(|millis| millis <= 5_000), "{refused:?}");
            assert_eq!(script.calls("read"), 0);
            tokio::time::sleep(PAUSE).await;
            let probe = client.call("read", json!({"topic": "tea"})).await;
            assert_eq!(text(&probe), "read tea: 1");
            assert_eq!(mark(&probe, outcome::BREAKER)["state"], json!("closed"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_about_the_call_open_nothing() {
        for how in ["error", "result"] {
            let script = Script::new();
            let client = serve(&script, BreakerTool::new()).client("ada").await;
            for number in 1..=20 {
                let failed = client.call("fail", json!({"kind": "invalid_params", "how": how})).await;
                assert!(text(&failed).ends_with(&format!("at {number}")), "{failed:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_retry_outside_waits_for_an_open_breaker() {
        let script = Script::new();
        let retry = RetryTool::new().with_max_attempts(10);
        let breaker = BreakerTool::new().with_min_calls(2);
        let refused = serve(&script, (retry, breaker)).client("ada").await.call("flaky", json!({})).await;
        assert_eq!(mark(&refused, outcome::BREAKER), json!("open"), "{refused:?}");
        assert_eq!(mark(&refused, outcome::ATTEMPTS), json!(3));
        assert_eq!(script.calls("flaky"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_leaves_gives_its_place_to_the_next() {
        let script = Script::new();
        let breaker = BreakerTool::new().with_group("service", ["fail", "slow", "read"]);
        let server = serve(&script, breaker);
        let client = server.client("ada").await;
        for _ in 0..5 {
            let _ = client.call("fail", json!({"kind": "unavailable"})).await;
        }
        tokio::time::sleep(PAUSE).await;
        let probe = client.start("slow", json!({})).await;
        while script.calls("slow") < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = server.client("bob").await.call("read", json!({"topic": "tea"})).await;
        assert_eq!(mark(&refused, outcome::BREAKER), json!("half_open"), "{refused:?}");
        probe.cancel().await;
        while script.ended_early() < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let next = async {
            loop {
                let answer = client.call("read", json!({"topic": "tea"})).await;
                if !mark(&answer, outcome::BREAKER).is_string() {
                    return text(&answer);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert_eq!(next.await, "read tea: 1");
    }
}
