//! Calls with an idempotency key.

use std::time::Duration;

use mcp_patterns::IdempotentTool;
use mcp_patterns::idempotency_keys::{IDEMPOTENCY, Idempotency, KeySource};
use mcp_patterns::idempotent::MemoryBackend;
use serde_json::json;
use tokio::time::sleep;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, mark, text};

fn keyed() -> IdempotentTool {
    IdempotentTool::new(MemoryBackend::new()).only(["pay"])
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn the_second_call_with_a_key_replays_the_first() {
        let script = Script::new();
        let client = serve(&script, keyed()).client("ada").await;
        let args = json!({"idempotency_key": "k"});
        assert_eq!(text(&client.call("pay", args.clone()).await), "paid: 1");
        let again = client.call("pay", args).await;
        assert_eq!((text(&again), mark(&again, IDEMPOTENCY)), ("paid: 1".into(), json!("replayed")));
        assert_eq!(script.calls("pay"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_its_users_own_and_no_other_call_may_use_it() {
        let script = Script::new();
        let server = serve(&script, keyed());
        let (ada, bob) = (server.client("ada").await, server.client("bob").await);
        let args = json!({"idempotency_key": "k"});
        assert_eq!(text(&ada.call("pay", args.clone()).await), "paid: 1");
        assert_eq!(text(&bob.call("pay", args).await), "paid: 2");
        let other = ada.call("pay", json!({"idempotency_key": "k", "how": "otherwise"})).await;
        assert_eq!(mark(&other, IDEMPOTENCY), "key_reused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_key_is_running_says_so() {
        let script = Script::new();
        let client = serve(&script, keyed().with_wait(Duration::ZERO)).client("ada").await;
        let args = json!({"idempotency_key": "k", "how": "slow"});
        let first = client.start("pay", args.clone()).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(mark(&client.call("pay", args).await, IDEMPOTENCY), "in_progress");
        script.open(1);
        assert_eq!(text(&first.answer().await), "paid: 1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_whose_outcome_is_unknown_is_refused() {
        let script = Script::new();
        let client = serve(&script, keyed()).client("ada").await;
        let args = json!({"idempotency_key": "k", "how": "lost"});
        let _ = client.call("pay", args.clone()).await;
        let refused = text(&client.call("pay", args).await);
        assert!(refused.contains("it may or may not have taken effect"), "{refused}");
        assert_eq!(script.calls("pay"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_may_come_in_the_meta_of_a_call() {
        let script = Script::new();
        let keys = Idempotency::new().with_source(KeySource::Metadata("example.com/key".into()));
        let client = serve(&script, keyed().with_idempotency(keys)).client("ada").await;
        for key in ["one", "one", "two"] {
            let _ = client.call_with_meta("pay", json!({}), json!({"example.com/key": key})).await;
        }
        assert_eq!(script.calls("pay"), 2);
    }
}
