//! Anonymous callers on several connections.

use turbomcp_core::TransportType;

use super::shared::{postgres, redis, sqlite};
use super::*;
use crate::Identity;
use crate::testing::Traced;
use crate::testing::databases::new_name;

fn on(connection: &str) -> RequestContext {
    RequestContext::new().with_session_id(connection)
}

fn over(transport: TransportType) -> RequestContext {
    on("1").with_transport(transport)
}

/// Returns whether an answer is marked as first returned to another connection.
fn is_from_elsewhere(result: &McpResult<ToolResult>) -> bool {
    let marked = match result {
        Ok(result) => result.meta.as_ref().and_then(|meta| meta.get(OTHER_CONNECTION)),
        Err(error) => error.data().and_then(|data| data.get(OTHER_CONNECTION)),
    };
    marked.is_some_and(|marked| *marked == json!(true))
}

#[tokio::test]
async fn anonymous_callers_share_a_key_unless_they_are_distinguished_by_session() {
    let post = post();
    let shared = memory().layer(post.clone());
    send_as(&shared, "k", &on("1")).await.unwrap();
    assert_eq!(text(&send_as(&shared, "k", &on("2")).await), "sent 1");

    let apart = memory().with_identity(Identity::new().with_anonymous_by_session()).layer(post.clone());
    for (connection, sent) in [("1", "sent 2"), ("2", "sent 3"), ("1", "sent 2")] {
        assert_eq!(text(&send_as(&apart, "k", &on(connection)).await), sent);
    }
    let ada = |connection| on(connection).with_user_id("ada");
    send_as(&apart, "k", &ada("1")).await.unwrap();
    assert_eq!(text(&send_as(&apart, "k", &ada("2")).await), "sent 4", "an authenticated user has one key everywhere");
}

async fn a_replay_states_whether_another_connection_got_the_first_answer(backend: impl Backend) {
    let server = layer(backend).layer(post());
    let key = new_name();
    let first = send_as(&server, &key, &on("1")).await;
    assert!(!is_from_elsewhere(&first));
    for (connection, elsewhere) in [("1", false), ("2", true), ("1", false)] {
        let replayed = send_as(&server, &key, &on(connection)).await;
        assert_eq!((told(&replayed), is_from_elsewhere(&replayed)), (json!("replayed"), elsewhere), "{connection}");
        assert_eq!(unmarked(replayed), unmarked(first.clone()));
    }
    assert!(is_from_elsewhere(&send(&server, &key).await), "a call without a connection counts as another connection");
}

#[tokio::test]
async fn a_replay_from_memory_states_whether_another_connection_got_the_first_answer() {
    a_replay_states_whether_another_connection_got_the_first_answer(MemoryBackend::new()).await;
}

#[tokio::test]
async fn a_replay_from_redis_states_whether_another_connection_got_the_first_answer() {
    a_replay_states_whether_another_connection_got_the_first_answer(redis().await).await;
}

#[tokio::test]
async fn a_replay_from_sqlite_states_whether_another_connection_got_the_first_answer() {
    let (backend, _file) = sqlite().await;
    a_replay_states_whether_another_connection_got_the_first_answer(backend).await;
}

#[tokio::test]
async fn a_replay_from_postgres_states_whether_another_connection_got_the_first_answer() {
    a_replay_states_whether_another_connection_got_the_first_answer(postgres().await).await;
}

#[tokio::test]
async fn a_replayed_failure_is_marked_as_replayed_unless_the_layer_adds_no_meta() {
    let refuses = || ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::invalid_params("No Ada"))));
    let recording = || memory().with_idempotency(Idempotency::new().recording_failures());
    let server = recording().layer(refuses());
    send_as(&server, "k", &on("1")).await.unwrap();
    assert!(is_from_elsewhere(&send_as(&server, "k", &on("2")).await));

    let silent = recording().without_meta().layer(refuses());
    send_as(&silent, "k", &on("1")).await.unwrap();
    assert!(!is_from_elsewhere(&send_as(&silent, "k", &on("2")).await));
}

#[tokio::test]
async fn the_store_of_answers_contains_no_session_id() {
    let (backend, file) = sqlite().await;
    let server = layer(backend).layer(post());
    send_as(&server, "k", &on("the session of ada's browser")).await.unwrap();
    let kept: (String, String) =
        sqlx::query_as("select id, result from mcp_patterns_idempotency").fetch_one(&file.pool).await.unwrap();
    assert!(!format!("{kept:?}").contains("browser"), "{kept:?}");
}

#[tokio::test]
async fn a_resolved_answer_belongs_to_no_connection() {
    let script = ScriptedServer::new("post").with_plain("send", |_| ready(Err(McpError::timeout("Lost"))));
    let layer = memory();
    let handle = layer.handle();
    let server = layer.layer(script);
    send_as(&server, "k", &on("1")).await.unwrap();
    handle.resolve(&on("3"), "send", "k", Resolution::Done(ToolResult::text("It is sent"))).await.unwrap();
    for connection in ["1", "2"] {
        let replayed = send_as(&server, "k", &on(connection)).await;
        assert_eq!((text(&replayed).as_str(), is_from_elsewhere(&replayed)), ("It is sent", false));
    }
}

#[tokio::test]
async fn a_key_that_is_too_short_is_refused_with_the_fix() {
    let post = post();
    let server = memory().with_idempotency(Idempotency::new().with_min_key_length(16)).layer(post.clone());
    let refused = send(&server, "fifteen-chars-1").await;
    assert_eq!(kind(&refused), Some(ErrorKind::InvalidParams));
    assert_eq!(
        text(&refused),
        "The idempotency key is too short: send a random UUID, or other random text of at least 16 characters"
    );
    assert_eq!(post.calls("send"), 0);
    send(&server, "sixteen-chars-12").await.unwrap();
    send(&server, "7a0e8b3c-5d3f-4f0e-9c59-0a6d3b1c2e4f").await.unwrap();
    assert_eq!(post.calls("send"), 2);

    let schema = serde_json::to_value(&server.list_tools()[0].input_schema).unwrap();
    let key = &schema["properties"]["idempotency_key"];
    assert_eq!(key["minLength"], 16);
    assert!(key["description"].as_str().unwrap().contains("a new random UUID"), "{key}");
    for (length, reason) in [(0, "greater than zero"), (256, "at most 255")] {
        let layer = memory().with_idempotency(Idempotency::new().with_min_key_length(length));
        let refused = layer.try_layer(post.clone()).map(|_| ()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("Idempotency::with_min_key_length: must be {reason}")), "{refused}");
    }
}

const WARNING: &str = "anonymous callers over a network share idempotency keys";

fn warnings(traced: &Traced) -> usize {
    traced.text().matches(WARNING).count()
}

#[tokio::test]
async fn anonymous_callers_over_a_network_cause_one_warning_per_layer() {
    let traced = Traced::start();
    let layer = memory();
    let server = layer.layer(post());
    for transport in [TransportType::Stdio, TransportType::Unix, TransportType::Channel] {
        send_as(&server, "k", &over(transport)).await.unwrap();
    }
    let ada = over(TransportType::Http).with_user_id("ada");
    send_as(&server, "k", &ada).await.unwrap();
    let without_key = server.call_tool("send", json!({"to": "ada"}), &over(TransportType::Http)).await;
    without_key.unwrap();
    assert_eq!(warnings(&traced), 0);

    for server in [&server, &layer.layer(post()), &layer.clone().layer(post())] {
        send_as(server, "k", &over(TransportType::Http)).await.unwrap();
    }
    assert_eq!(warnings(&traced), 1, "a layer warns once, however often it is cloned and put on");
    send_as(&memory().layer(post()), "k", &over(TransportType::Http)).await.unwrap();
    assert_eq!(warnings(&traced), 2, "another layer warns for itself");
}

#[tokio::test]
async fn a_layer_that_distinguishes_anonymous_callers_does_not_warn() {
    let traced = Traced::start();
    let by_header = Identity::new().with_partition(|ctx| json!(ctx.header("x-user")));
    for identity in [Identity::new().with_anonymous_by_session(), by_header] {
        let server = memory().with_identity(identity).layer(post());
        send_as(&server, "k", &over(TransportType::Http)).await.unwrap();
    }
    assert_eq!(warnings(&traced), 0);
}
