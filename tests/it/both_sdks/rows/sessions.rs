//! What is remembered between calls.

use mcp_patterns::SessionStore;
use mcp_patterns::session::SessionMode;
use serde_json::json;

use crate::both_sdks::script::Script;
use crate::both_sdks::{in_both_columns, text};

fn store() -> SessionStore {
    SessionStore::in_memory().only(["visit"])
}

in_both_columns! {
    #[tokio::test(start_paused = true)]
    async fn each_connection_has_a_session() {
        let script = Script::new();
        let server = serve(&script, store());
        let clients = [server.client("ada").await, server.client("ada").await];
        for visit in 1..=2 {
            for client in &clients {
                assert_eq!(text(&client.call("visit", json!({})).await), format!("visit {visit}"));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_connections_of_a_user_have_one_session() {
        let script = Script::new();
        let server = serve(&script, store().with_mode(SessionMode::Principal));
        let clients = [server.client("ada").await, server.client("ada").await, server.client("bob").await];
        let mut visits = Vec::new();
        for client in &clients {
            visits.push(text(&client.call("visit", json!({})).await));
        }
        assert_eq!(visits, ["visit 1", "visit 2", "visit 1"]);
        let refused = text(&server.client("").await.call("visit", json!({})).await);
        assert!(!refused.starts_with("visit"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_handle_is_a_session_of_its_user() {
        let script = Script::new();
        let server = serve(&script, store().with_mode(SessionMode::Handle));
        let (ada, bob) = (server.client("ada").await, server.client("bob").await);
        let handles = [ada.call("open_session", json!({})).await, ada.call("open_session", json!({})).await];
        let handles = handles.each_ref().map(text);
        for visit in 1..=2 {
            for handle in &handles {
                let visited = ada.call("visit", json!({"session": handle})).await;
                assert_eq!(text(&visited), format!("visit {visit}"));
            }
        }
        let refused = text(&bob.call("visit", json!({"session": handles[0]})).await);
        assert!(!refused.starts_with("visit"), "{refused}");
    }
}
