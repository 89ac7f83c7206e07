//! The layer's refusals: their texts and marks, and an id that is also in the log.

use super::*;
use crate::testing::private_redis::PrivateRedis;
use crate::testing::{Took, Traced};

/// The id in the text of an error.
fn id_in(text: &str) -> &str {
    let id = text.split_once("(error ").and_then(|(_, id)| id.strip_suffix(')'));
    let id = id.unwrap_or_else(|| panic!("no id is in `{text}`"));
    assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{text}");
    id
}

/// Checks that the log has the id once, with the fields, and the key nowhere.
fn is_logged(traced: &Traced, text: &str, fields: &[&str]) {
    let (id, log) = (id_in(text), traced.text());
    let mut lines = log.lines().filter(|line| line.contains(id));
    let line = lines.next().unwrap_or_else(|| panic!("no line has {id}: {log}"));
    assert_eq!(lines.next(), None, "the log has it twice");
    for field in ["tool=\"send\"", "key_hash=\"", "attempt=1"].iter().chain(fields) {
        assert!(line.contains(field), "{field}: {line}");
    }
    assert!(!log.contains("secret-key"), "{log}");
}

#[tokio::test]
async fn a_redis_without_memory_refuses_a_call_that_is_not_made_and_leaves_nothing_in_doubt() {
    let redis = PrivateRedis::start_on_request();
    let post = post();
    let connection = redis.client().get_connection_manager().await.expect("it is there");
    let server = layer(in_redis(connection)).layer(post.clone());
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let (traced, took) = (Traced::start(), Took::begin());
    let refused = send(&server, "secret-key").await;
    took.until("a claim without memory is refused");
    assert_eq!((kind(&refused), told(&refused)), (Some(ErrorKind::Unavailable), json!("unavailable")));
    is_logged(&traced, &text(&refused), &["backend=\"Redis\"", "OOM"]);
    assert_eq!(post.calls("send"), 0);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let made = send(&server, "secret-key").await;
    assert_eq!(text(&made), "sent 1");
}

#[tokio::test]
async fn an_ambiguous_call_has_an_id_that_the_log_repeats_with_the_hash_of_its_key() {
    let layer = memory();
    let handle = layer.handle();
    let server = layer.layer(stumbling_post(McpError::timeout("The post does not answer")));
    let _lost = send(&server, "secret-key").await;
    let traced = Traced::start();
    let refused = send(&server, "secret-key").await;
    assert!(is_ambiguous(&refused), "{refused:?}");
    let listed = handle.ambiguous(None, 10).await.expect("a page");
    let hash = format!("key_hash=\"{}\"", listed.calls[0].key_hash());
    is_logged(&traced, &text(&refused), &["backend=\"memory\"", &hash]);
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_has_one_id_in_its_text_its_record_and_the_log() {
    let idempotency = Idempotency::new().with_final_refusal_after(secs(60));
    let server = memory().with_idempotency(idempotency).layer(stumbling_post(McpError::timeout("no answer")));
    let _lost = send(&server, "secret-key").await;
    tokio::time::advance(secs(61)).await;
    let traced = Traced::start();
    let refused = send(&server, "secret-key").await;
    assert_eq!(told(&refused), "unresolved", "{refused:?}");
    is_logged(&traced, &text(&refused), &["backend=\"memory\""]);
    assert_eq!(text(&send(&server, "secret-key").await), text(&refused));
}

#[tokio::test]
async fn each_refusal_of_a_key_is_marked() {
    let idempotency = Idempotency::new().required().with_min_key_length(8);
    let server = memory().with_idempotency(idempotency).layer(post());
    for (args, mark) in [
        (json!({}), "key_missing"),
        (json!({"idempotency_key": "short"}), "key_invalid"),
        (json!({"idempotency_key": "not a key at all"}), "key_invalid"),
    ] {
        let refused = server.call_tool("send", args.clone(), &RequestContext::new()).await;
        assert_eq!((kind(&refused), told(&refused)), (Some(ErrorKind::InvalidParams), json!(mark)), "{args}");
    }
    let one = MemoryBackend::new().with_max_records(1);
    let server = layer(one).layer(post());
    let _first = send(&server, "first").await;
    let refused = send(&server, "second").await;
    assert_eq!((kind(&refused), told(&refused)), (Some(ErrorKind::ServerOverloaded), json!("overloaded")));
}
