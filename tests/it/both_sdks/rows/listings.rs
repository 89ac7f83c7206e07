//! What clients see of the layers, and layers of the listing of each caller.

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::session::SessionMode;
use mcp_patterns::{IdempotentTool, SessionStore, ValidatedTool};
use serde_json::{Value, json};
use turbomcp_types::Tool;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, text};

fn arguments(tools: &[Tool], name: &str) -> Vec<String> {
    let tool = tools.iter().find(|tool| tool.name == name).expect("the tool is listed");
    let properties = tool.input_schema.properties.as_ref().and_then(Value::as_object);
    let mut names: Vec<_> = properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect();
    names.sort();
    names
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn arguments_and_tools_of_layers_are_listed() {
        let script = Script::new();
        let layers = (
            SessionStore::in_memory().with_mode(SessionMode::Handle).only(["visit"]),
            IdempotentTool::new(MemoryBackend::new()).only(["pay"]),
        );
        let tools = serve(&script, layers).client("ada").await.tools().await;
        assert_eq!(arguments(&tools, "visit"), ["how", "session"]);
        assert_eq!(arguments(&tools, "pay"), ["how", "idempotency_key"]);
        assert_eq!(arguments(&tools, "read"), ["topic"]);
        for added in ["open_session", "close_session"] {
            assert!(tools.iter().any(|tool| tool.name == added), "{added}");
        }
        assert_eq!(tools.len(), script.tools(false).len() + 2);
    }

    #[tokio::test]
    async fn a_tool_that_was_added_later_is_protected_also_if_nobody_has_listed_it() {
        let script = Script::new();
        let keyed = IdempotentTool::new(MemoryBackend::new()).when(|tool| tool.name == "late");
        let client = serve(&script, keyed).client("ada").await;
        script.add_late();
        for _ in 0..2 {
            let answer = client.call("late", json!({"idempotency_key": "k"})).await;
            assert_eq!(text(&answer), "late: 1");
        }
        let tools = client.tools().await;
        assert_eq!(arguments(&tools, "late"), ["how", "idempotency_key"]);
    }

    #[tokio::test]
    async fn each_caller_is_judged_by_its_own_listing_also_without_having_listed() {
        let script = Script::new();
        let server = serve(&script, ValidatedTool::new());
        let (admin, bob) = (server.client("admin").await, server.client("bob").await);
        for _ in 0..2 {
            assert_eq!(text(&admin.call("check", json!({"n": 50})).await), r#"{"n":50}"#);
            let refused = text(&bob.call("check", json!({"n": 50})).await);
            assert!(!refused.starts_with('{'), "{refused}");
        }
        admin.tools().await;
        bob.tools().await;
        assert_eq!(text(&admin.call("check", json!({"n": 50})).await), r#"{"n":50}"#);
        assert_eq!(script.calls("check"), 3);
    }
}
