//! The streams of events: their bounds, their ends, and what a failing backend does.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use rmcp::transport::streamable_http_server::session::{EventStore, EventStream};
use tokio::time::timeout;

use super::*;
use crate::rmcp_stores::events::{Log, NewEvent};
use crate::testing::databases::new_name;

on_every_store! {
    the_oldest_events_beyond_the_bound_are_dropped => count_is_bounded;
    the_oldest_bytes_beyond_the_bound_are_dropped_and_the_newest_event_stays => bytes_are_bounded;
    a_resumed_stream_waits_for_the_answer_and_ends_with_it => ends_with_the_answer;
    a_stream_that_has_ended_ends_at_once => ended_ends;
    expired_events_are_unknown => expired_is_unknown;
    a_client_too_slow_for_the_bound_misses_no_event_silently => gap_ends;
    ids_share_no_random_bits => ids_are_random;
}

async fn kept<L: Log>(store: &EventLog<L>, stream: &str, events: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for event in events {
        ids.push(store.store_event(stream, &notification(event)).await.unwrap());
    }
    ids
}

async fn next(events: &mut EventStream) -> Option<String> {
    let next = timeout(LONGEST, events.next()).await.expect("the stream goes on or ends");
    next.map(|event| text(&event))
}

async fn is_unknown<L: Log>(store: &EventLog<L>, id: &str) -> bool {
    let Err(error) = store.replay_events_after(id).await else { return false };
    matches!(error.downcast_ref(), Some(EventLogError::UnknownEvent))
}

async fn count_is_bounded<L: Log>(store: EventLog<L>) {
    let (store, stream) = (store.with_max_events(3), new_name());
    let ids = kept(&store, &stream, &["1", "2", "3", "4", "5"]).await;
    for gone in &ids[..2] {
        assert!(is_unknown(&store, gone).await, "what was dropped is not skipped");
    }
    let mut events = store.replay_events_after(&ids[2]).await.unwrap();
    assert_eq!((next(&mut events).await, next(&mut events).await), (Some("4".into()), Some("5".into())));
}

async fn bytes_are_bounded<L: Log>(store: EventLog<L>) {
    let (store, stream) = (store.with_max_bytes(3_500), new_name());
    let thousand = "x".repeat(850);
    let ids = kept(&store, &stream, &[thousand.as_str(); 6]).await;
    let unknown = [is_unknown(&store, &ids[2]).await, is_unknown(&store, &ids[3]).await];
    assert_eq!(unknown, [true, false], "three events fit");
    let large = "x".repeat(10_000);
    let ids = kept(&store, &stream, &[large.as_str()]).await;
    assert!(!is_unknown(&store, &ids[0]).await, "an answer larger than the bound is not lost");
    let ids = kept(&store, &stream, &["1", "2", "3"]).await;
    let mut events = store.replay_events_after(&ids[0]).await.unwrap();
    assert_eq!((next(&mut events).await, next(&mut events).await), (Some("2".into()), Some("3".into())));
}

async fn ends_with_the_answer<L: Log>(store: EventLog<L>) {
    let stream = new_name();
    let first = store.store_event(&stream, &ServerSseMessage::retry(MINUTE)).await.unwrap();
    let mut events = store.replay_events_after(&first).await.unwrap();
    kept(&store, &stream, &["progress"]).await;
    assert_eq!(next(&mut events).await.as_deref(), Some("progress"), "it waits for what comes later");
    store.store_event(&stream, &answer()).await.unwrap();
    assert_eq!(next(&mut events).await.as_deref(), Some("the answer"));
    assert_eq!(next(&mut events).await, None, "and ends");
}

async fn ended_ends<L: Log>(store: EventLog<L>) {
    let stream = new_name();
    kept(&store, &stream, &["progress"]).await;
    let last = store.store_event(&stream, &answer()).await.unwrap();
    let mut events = store.replay_events_after(&last).await.unwrap();
    assert_eq!(next(&mut events).await, None);
}

async fn expired_is_unknown<L: Log>(store: EventLog<L>) {
    let stream = new_name();
    let ids = kept(&store, &stream, &["1"]).await;
    assert!(!is_unknown(&store, &ids[0]).await);
    store.log.touch(&ids[0], Duration::ZERO).await.unwrap();
    assert!(is_unknown(&store, &ids[0]).await);
}

async fn gap_ends<L: Log>(store: EventLog<L>) {
    let (store, stream) = (store.with_max_events(150), new_name());
    let texts: Vec<String> = (0..150).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ids = kept(&store, &stream, &texts).await;
    let mut events = store.replay_events_after(&ids[0]).await.unwrap();
    assert_eq!(next(&mut events).await.as_deref(), Some("1"));
    // The client reads no further. The log does not wait for it.
    kept(&store, &stream, &texts).await;
    let mut seen = vec!["1".to_owned()];
    while let Some(text) = next(&mut events).await {
        seen.push(text);
    }
    assert_eq!(seen, texts[1..=seen.len()], "there is no gap in what it gets");
    assert!(seen.len() < 150, "the stream ends instead: {}", seen.len());
}

async fn ids_are_random<L: Log>(store: EventLog<L>) {
    let stream = new_name();
    let ids = kept(&store, &stream, &["same"; 32]).await;
    let secrets: BTreeSet<&str> = ids.iter().map(|id| &id[id.len() - 32..]).collect();
    assert_eq!(secrets.len(), 32);
    for place in 0..32 {
        let digits: BTreeSet<u8> = secrets.iter().map(|secret| secret.as_bytes()[place]).collect();
        assert!(digits.len() > 4, "digit {place} of 32 ids is one of {digits:?}");
    }
}

#[tokio::test]
async fn a_shared_log_contains_no_id_of_a_stream_or_a_session() {
    let (store, file) = sqlite().await;
    let session = new_name();
    kept(&store, &format!("{session}:common"), &["1"]).await;
    let streams: Vec<String> =
        sqlx::query_scalar("select stream from mcp_patterns_rmcp_events").fetch_all(&file.pool).await.unwrap();
    assert!(streams.iter().all(|stream| stream.len() == 32 && !stream.contains(&session)));
}

#[tokio::test]
async fn expired_rows_are_swept() {
    let (store, file) = sqlite().await;
    for id in kept(&store, &new_name(), &["1", "2"]).await {
        store.log.touch(&id, Duration::ZERO).await.unwrap();
    }
    kept(&store, &new_name(), &["3"]).await;
    let swept = SqlEventStore::sweep(&file.pool).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from mcp_patterns_rmcp_events").fetch_one(&file.pool).await.unwrap();
    assert_eq!((swept, rows), (2, 1), "what has not expired stays");
}

#[tokio::test]
async fn a_missing_table_is_an_error_that_names_the_function_which_creates_it() {
    let file = databases::sqlite().await;
    let store = SqlEventStore::new(file.pool.clone());
    let text = store.check_storage().await.unwrap_err().to_string();
    assert!(text.contains("rmcp_stores::SqlEventStore::ensure_schema(&pool)"), "{text}");
    assert_eq!(store.store_event("stream", &answer()).await.unwrap_err().to_string(), text);
    SqlEventStore::ensure_schema(&file.pool).await.unwrap();
    store.check_storage().await.unwrap();
}

#[tokio::test]
async fn replicas_may_create_the_table_at_the_same_time() {
    let pool = databases::postgres_schema(databases::postgres_options(), 4).await;
    let created = futures_util::future::join_all((0..8).map(|_| SqlEventStore::ensure_schema(&pool))).await;
    assert!(created.iter().all(Result::is_ok), "{created:?}");
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_an_error_of_every_use() {
    let store = redis().await;
    for (broken, setting) in [
        (store.clone().with_ttl(Duration::ZERO), "with_ttl"),
        (store.clone().with_max_events(0), "with_max_events"),
        (store.clone().with_max_bytes(0), "with_max_bytes"),
        (store.clone().with_poll_interval(Duration::ZERO), "with_poll_interval"),
        (store.clone().with_backend_timeout(Duration::from_nanos(1)), "with_backend_timeout"),
        (store.clone().with_lease(Duration::ZERO), "with_lease"),
        (store.clone().with_replicas(0, MINUTE), "with_replicas"),
    ] {
        let text = broken.check().unwrap_err().to_string();
        assert!(text.starts_with(&format!("RedisEventStore::{setting}: ")), "{text}");
        assert_eq!(broken.check_storage().await.unwrap_err().to_string(), text);
        assert_eq!(broken.store_event("stream", &answer()).await.unwrap_err().to_string(), text);
        assert_eq!(broken.replay_events_after("id").await.err().unwrap().to_string(), text);
    }
    store.check_storage().await.unwrap();
}

#[tokio::test]
async fn a_failing_backend_is_an_error_that_names_no_secret() {
    let nowhere = crate::RedisConnection::open("redis://user:hunter2@127.0.0.1:1").unwrap();
    let store = RedisEventStore::new(nowhere).with_backend_timeout(Duration::from_millis(300));
    let id = format!("1-0.{}.{}", new_name(), new_name());
    for error in [
        store.store_event("stream-7", &answer()).await.unwrap_err(),
        store.replay_events_after(&id).await.err().unwrap(),
    ] {
        let text = format!("{error} {error:?}");
        assert!(text.contains("the event store fails"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("stream-7") && !text.contains(&id), "{text}");
    }
}

#[tokio::test]
async fn the_rest_of_a_stream_that_a_client_follows_does_not_expire() {
    let (store, file) = sqlite().await;
    let ids = kept(&store, &new_name(), &["1"]).await;
    store.log.touch(&ids[0], MINUTE / 2).await.unwrap();
    let expiry = || async {
        let at: i64 = sqlx::query_scalar("select max(expires_at) from mcp_patterns_rmcp_events")
            .fetch_one(&file.pool)
            .await
            .unwrap();
        at
    };
    let before = expiry().await;
    let _events = store.replay_events_after(&ids[0]).await.unwrap();
    let is_kept = async {
        while expiry().await < before + 60_000 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST, is_kept).await.expect("it is kept longer");
}

#[tokio::test]
async fn the_rest_of_a_stream_in_redis_that_a_client_follows_does_not_expire() {
    use ::redis::AsyncCommands;
    let (mut connection, store) = (databases::redis().await, redis().await);
    let ids = kept(&store, &new_name(), &["1"]).await;
    store.log.touch(&ids[0], MINUTE / 2).await.unwrap();
    let key = format!("mcp-patterns:test:rmcp-events:{}", ids[0].split('.').nth(1).unwrap());
    let _events = store.replay_events_after(&ids[0]).await.unwrap();
    let is_kept = async {
        while connection.pttl::<_, i64>(&key).await.unwrap() < 60_000 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST, is_kept).await.expect("it is kept longer");
}

/// A connection to a cluster sends a command again whose answer is late.
#[tokio::test]
async fn an_event_that_is_sent_to_redis_twice_is_kept_once() {
    let (store, stream, secret) = (redis().await, new_name(), new_name());
    kept(&store, &stream, &["1"]).await;
    let event =
        || NewEvent { stream: &stream, secret: &secret, data: "{}", ttl: MINUTE, max_events: 10, max_bytes: 1_000 };
    let first = store.log.append(event()).await.unwrap().unwrap();
    assert_eq!(store.log.append(event()).await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.log.read_from(&first, 10).await.unwrap().map(|events| events.len()), Some(1));
}

#[tokio::test]
async fn a_key_of_another_kind_in_redis_is_not_taken_for_a_stream() {
    use ::redis::AsyncCommands;
    let (mut connection, stream, secret) = (databases::redis().await, new_name(), new_name());
    let key = format!("mcp-patterns:test:rmcp-events:{stream}");
    let id = format!("1-0.{stream}.{secret}");
    let store = redis().await;
    let _: () = connection.set(&key, "rubbish").await.unwrap();
    assert!(matches!(store.log.read_from(&id, 10).await, Err(EventLogError::Backend(_))));
    let _: () = connection.del(&key).await.unwrap();
    let mut entry = ::redis::cmd("XADD");
    let _: String = entry.arg(&key).arg("1-0").arg("s").arg(&secret).query_async(&mut connection).await.unwrap();
    assert!(matches!(store.log.read_from(&id, 10).await, Err(EventLogError::Unreadable)));
    let _: () = connection.del(&key).await.unwrap();
}
