//! Answers that are kept.

use std::time::Duration;

use mcp_patterns::cached::Reads;
use mcp_patterns::{CachedTool, Scope};
use serde_json::json;
use tokio::time::sleep;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, status, text};

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn an_equal_call_is_answered_from_memory_and_another_one_is_not() {
        let script = Script::new();
        let client = serve(&script, CachedTool::new()).client("ada").await;
        let mut answers = Vec::new();
        for topic in ["a", "a", "b"] {
            let answer = client.call("read", json!({"topic": topic})).await;
            answers.push((text(&answer), status(&answer)));
        }
        let expected = [("read a: 1", "miss"), ("read a: 1", "hit"), ("read b: 2", "miss")];
        assert_eq!(answers, expected.map(|(text, status)| (text.to_owned(), json!(status))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_kept_in_either_form() {
        let script = Script::new();
        let client = serve(&script, CachedTool::new()).client("ada").await;
        for how in ["error", "error", "result", "result"] {
            assert_eq!(text(&client.call("broken", json!({"how": how})).await), "never");
        }
        assert_eq!(script.calls("broken"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_may_write_is_not_cached() {
        let script = Script::new();
        let client = serve(&script, CachedTool::new()).client("ada").await;
        for _ in 0..2 {
            let _ = client.call("write", json!({"topic": "a"})).await;
        }
        assert_eq!(script.calls("write"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_answer_is_given_while_a_new_one_is_loaded() {
        let script = Script::new();
        let cached = CachedTool::new().with_ttl(Duration::from_secs(10));
        let cached = cached.with_stale_while_revalidate(Duration::from_secs(60));
        let client = serve(&script, cached).client("ada").await;
        let mut answers = Vec::new();
        for wait in [20, 1, 0] {
            let answer = client.call("read", json!({"topic": "a"})).await;
            answers.push((text(&answer), status(&answer)));
            sleep(Duration::from_secs(wait)).await;
        }
        let expected = [("read a: 1", "miss"), ("read a: 1", "stale"), ("read a: 2", "hit")];
        assert_eq!(answers, expected.map(|(text, status)| (text.to_owned(), json!(status))));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_equal_calls_make_one() {
        let script = Script::new();
        let server = serve(&script, CachedTool::new());
        let (one, other) = (server.client("ada").await, server.client("ada").await);
        let (first, second) = (one.start("slow", json!({})).await, other.start("slow", json!({})).await);
        sleep(Duration::from_millis(50)).await;
        script.open(1);
        assert_eq!((text(&first.answer().await), text(&second.answer().await)), ("slow: 1".into(), "slow: 1".into()));
        assert_eq!(script.calls("slow"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_shared_in_its_scope_only() {
        for (scope, calls) in [(Scope::Session, [1, 2, 3]), (Scope::Principal, [1, 1, 2]), (Scope::Public, [1, 1, 1])] {
            let script = Script::new();
            let server = serve(&script, CachedTool::new().with_scope(scope));
            let clients = [server.client("ada").await, server.client("ada").await, server.client("bob").await];
            for _ in 0..2 {
                let mut answers = Vec::new();
                for client in &clients {
                    answers.push(text(&client.call("read", json!({"topic": "a"})).await));
                }
                assert_eq!(answers, calls.map(|call| format!("read a: {call}")), "{scope:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_invalidates_what_it_changes() {
        let script = Script::new();
        let tag = |args: &serde_json::Value| [args["topic"].as_str().unwrap_or_default().to_owned()];
        let by_tag = CachedTool::new().tag("read", tag).invalidates_tags("write", tag);
        for (layer, others) in [(CachedTool::new().invalidates("write", ["read"]), "miss"), (by_tag, "hit")] {
            let client = serve(&script, layer).client("ada").await;
            for topic in ["a", "b"] {
                let _ = client.call("read", json!({"topic": topic})).await;
            }
            let _ = client.call("write", json!({"topic": "a"})).await;
            assert_eq!(status(&client.call("read", json!({"topic": "a"})).await), "miss");
            assert_eq!(status(&client.call("read", json!({"topic": "b"})).await), others);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resources_and_prompts_are_kept_until_a_call_says_that_they_changed() {
        let script = Script::new();
        let cached = CachedTool::new().with_resources(Reads::new()).with_prompts(Reads::new());
        let client = serve(&script, cached).client("ada").await;
        for _ in 0..2 {
            for uri in ["note://a", "note://b"] {
                let read = serde_json::to_value(client.read(uri).await.expect("a resource")).expect("JSON");
                assert_eq!(read["contents"][0]["text"], format!("{uri}: 1"));
            }
            let prompt = serde_json::to_value(client.prompt("poem").await.expect("a prompt")).expect("JSON");
            assert_eq!(prompt["messages"][0]["content"]["text"], "poem: 1");
        }
        let _ = client.call("update", json!({})).await;
        for (uri, reads) in [("note://a", 2), ("note://b", 1)] {
            client.read(uri).await.expect("a resource");
            assert_eq!(script.calls(uri), reads);
        }
    }
}
