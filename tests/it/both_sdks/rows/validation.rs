//! Arguments that are checked.

use mcp_patterns::ValidatedTool;
use serde_json::json;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, text};

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn a_call_with_wrong_arguments_is_refused_with_every_place_that_is_wrong() {
        let script = Script::new();
        let client = serve(&script, ValidatedTool::new()).client("ada").await;
        let refused = client.call("check", json!({"n": 12, "unit": 7})).await;
        let message = text(&refused);
        assert!(message.contains("n") && message.contains("unit"), "{message}");
        let told = crate::both_sdks::mark(&refused, "mcp-patterns/validation").to_string();
        assert!(told.contains("/n") && told.contains("/unit"), "{told}");
        assert_eq!(script.calls("check"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn defaults_are_filled_in() {
        let script = Script::new();
        let client = serve(&script, ValidatedTool::new().with_defaults()).client("ada").await;
        assert_eq!(text(&client.call("check", json!({"n": 3})).await), r#"{"n":3,"unit":"m"}"#);
    }
}
