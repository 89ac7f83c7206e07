use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use rmcp::model::{
    CustomNotification, CustomResult, RequestId, ServerJsonRpcMessage, ServerNotification, ServerResult,
};
use rmcp::transport::streamable_http_server::session::{EventStore, ServerSseMessage};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::rmcp_session_store::id;

/// A store that needs longer than this for an event hangs.
const LONGEST: Duration = Duration::from_secs(30);

/// How often a stream that ends early is resumed.
const MAX_RESUMPTIONS: usize = 1_000;

/// Checks that an rmcp [`EventStore`] does what its documentation states, and panics where it does not.
///
/// It calls `make_store` for each check. The stores may share their records: every check uses streams of its own. A resumed stream may
/// end with the last event that is kept, or wait for later ones.
///
/// ```
/// use mcp_patterns::{rmcp_stores::SqlEventStore, testing::rmcp_event_store_contract};
/// use sqlx::sqlite::SqlitePoolOptions;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool =
///     SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// SqlEventStore::ensure_schema(&pool).await?;
/// rmcp_event_store_contract(|| async { SqlEventStore::new(pool.clone()) }).await;
/// # Ok(()) }
/// ```
pub async fn rmcp_event_store_contract<S: EventStore, F: Future<Output = S>>(make_store: impl Fn() -> F) {
    later_events_are_replayed_in_their_order_with_their_ids(&Checked(make_store().await)).await;
    streams_do_not_mix(&Checked(make_store().await)).await;
    an_event_is_kept_before_its_id_is_returned(&Checked(make_store().await)).await;
    every_event_is_read_back_unchanged(&Checked(make_store().await)).await;
    every_id_is_unique_and_fits_in_a_header(&Checked(make_store().await)).await;
    an_id_that_no_event_has_is_an_error(&Checked(make_store().await)).await;
    concurrent_writers_of_a_stream_lose_nothing(&Checked(make_store().await)).await;
    an_answer_does_not_end_the_stream_of_a_session(&Checked(make_store().await)).await;
}

async fn later_events_are_replayed_in_their_order_with_their_ids<S: EventStore>(store: &Checked<S>) {
    let stream = id();
    let mut events = Vec::new();
    for number in 0..250 {
        let event = progress(number);
        events.push((store.store(&stream, &event).await, json(&event)));
    }
    for seen in [0, 1, 99, 100, 101, 248] {
        same(&store.after(&events[seen].0, events.len() - seen - 1).await, &events[seen + 1..]);
    }
}

async fn streams_do_not_mix<S: EventStore>(store: &Checked<S>) {
    let session = id();
    let streams = [id(), id(), format!("{session}:common"), session];
    let mut firsts = Vec::new();
    for stream in &streams {
        firsts.push(store.store(stream, &progress(0)).await);
    }
    let mut expected = vec![Vec::new(); streams.len()];
    for number in 1..=5 {
        for (stream, expected) in streams.iter().zip(&mut expected) {
            let event = message(json!({"jsonrpc": "2.0", "method": format!("n/{number}"), "params": {"on": stream}}));
            expected.push((store.store(stream, &event).await, json(&event)));
        }
    }
    for (first, expected) in firsts.iter().zip(expected) {
        same(&store.after(first, 5).await, &expected);
    }
}

async fn an_event_is_kept_before_its_id_is_returned<S: EventStore>(store: &Checked<S>) {
    let stream = id();
    let mut last = store.store(&stream, &progress(0)).await;
    for number in 1..20 {
        let next = store.store(&stream, &progress(number)).await;
        same(&store.after(&last, 1).await, &[(next.clone(), json(&progress(number)))]);
        last = next;
    }
}

async fn every_event_is_read_back_unchanged<S: EventStore>(store: &Checked<S>) {
    let long = "0123456789".repeat(10_000);
    let texts = ["", "π 🦀 'quoted' \"twice\" %s $1 {0}\r\n\t\u{0}\u{2028}", "data: not\n\nan event", &long];
    let mut events = vec![
        ServerSseMessage::retry(Duration::from_millis(2_500)),
        ServerSseMessage::retry(Duration::ZERO),
        ServerSseMessage::default(),
    ];
    for text in texts {
        let params = json!({
            "progressToken": text, "progress": 0.1, "message": text, "_meta": {text: [text]}, "unknown": {"to": "rmcp"},
        });
        let notification = CustomNotification::new("notifications/progress", Some(params));
        let notification = ServerNotification::CustomNotification(notification);
        events.push(ServerSseMessage::from_message(ServerJsonRpcMessage::notification(notification)));
    }
    for json in [
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
        json!({"jsonrpc": "2.0", "method": "custom/notification", "params": {"big": i64::MAX, "small": 1e-300}}),
        json!({"jsonrpc": "2.0", "id": "a text", "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}),
    ] {
        events.push(message(json));
    }
    let mut with_retry = message(json!({"jsonrpc": "2.0", "method": "with/retry"}));
    with_retry.retry = Some(Duration::from_secs(3));
    events.push(with_retry);

    let stream = id();
    let first = store.store(&stream, &ServerSseMessage::retry(Duration::from_secs(1))).await;
    let mut expected = Vec::new();
    for event in &events {
        expected.push((store.store(&stream, event).await, json(event)));
    }
    same(&store.after(&first, events.len()).await, &expected);

    // An answer ends the stream of its request, so each has a stream of its own.
    let mut answers: Vec<_> = [
        json!({"jsonrpc": "2.0", "id": 8, "error": {"code": -32603, "message": "it failed", "data": {"why": [null]}}}),
        json!({"jsonrpc": "2.0", "error": {"code": 7, "message": ""}}),
    ]
    .map(message)
    .into();
    for result in [
        json!({}),
        json!({"content": [{"type": "text", "text": long}], "isError": false, "structuredContent": {"a": {"b": [1, 2]}}}),
        json!({"content": [], "_meta": {"key": "value"}, "structuredContent": {"messages": []}}),
        json!({"messages": [], "unknown": {"to": "rmcp"}}),
        json!({"tools": [], "nextCursor": "1", "resultType": "complete", "ttlMs": 5}),
        json!({"anything": [1.5, -7, true, null, {"": ""}]}),
    ] {
        for id in [json!(0), json!(i64::from(u32::MAX)), json!("seven")] {
            answers.push(message(json!({"jsonrpc": "2.0", "id": id, "result": result})));
        }
        // A server may answer with what looks like one of rmcp's types, and is more.
        let custom = ServerResult::CustomResult(CustomResult::new(result));
        let custom = ServerJsonRpcMessage::response(custom, RequestId::Number(1));
        answers.push(ServerSseMessage::from_message(custom));
    }
    for answer in answers {
        let stream = id();
        let first = store.store(&stream, &ServerSseMessage::retry(Duration::from_secs(1))).await;
        let expected = [(store.store(&stream, &answer).await, json(&answer))];
        same(&store.after(&first, 1).await, &expected);
    }
}

async fn every_id_is_unique_and_fits_in_a_header<S: EventStore>(store: &Checked<S>) {
    let mut ids = BTreeSet::new();
    let streams = [id(), id(), format!("{}:common", id())];
    for number in 0..20 {
        for stream in &streams {
            let event = store.store(stream, &progress(number)).await;
            assert!(event.bytes().all(|byte| byte.is_ascii_graphic()), "`{event}` is no value of a header");
            assert!((22..=256).contains(&event.len()), "`{event}` is too short for 128 random bits, or too long");
            assert!(!event.contains(stream.as_str()), "`{event}` tells the id of its stream");
            assert!(ids.insert(event), "an id is given once");
        }
    }
}

async fn an_id_that_no_event_has_is_an_error<S: EventStore>(store: &Checked<S>) {
    let stream = id();
    let known = store.store(&stream, &progress(0)).await;
    store.store(&stream, &progress(1)).await;
    for unknown in
        ["", "0", "0/1", "..", "0-1", "π", "' or 1=1 --", &stream, &id(), &"7".repeat(32), &"x".repeat(10_000)]
    {
        store.is_refused(unknown).await;
    }
    for (place, digit) in known.char_indices() {
        let other = if digit == '0' { '1' } else { '0' };
        store.is_refused(&format!("{}{other}{}", &known[..place], &known[place + digit.len_utf8()..])).await;
        store.is_refused(&known[..place]).await;
    }
    store.is_refused(&format!("{known}0")).await;
}

async fn concurrent_writers_of_a_stream_lose_nothing<S: EventStore>(store: &Checked<S>) {
    const WRITERS: u64 = 4;
    const EVENTS: u64 = 15;
    // Two replicas write to the stream of a session that belongs to no request.
    let stream = &format!("{}:common", id());
    let first = store.store(stream, &progress(0)).await;
    let written = join_all((1..=WRITERS).map(|writer| async move {
        let mut written = Vec::new();
        for number in 0..EVENTS {
            let event = progress(writer * 1_000 + number);
            written.push((store.store(stream, &event).await, json(&event)));
        }
        written
    }))
    .await;
    let kept = store.after(&first, written.concat().len()).await;
    for written in written {
        let kept: Vec<_> = kept.iter().filter(|event| written.contains(event)).cloned().collect();
        same(&kept, &written); // in the order of each writer
    }
}

async fn an_answer_does_not_end_the_stream_of_a_session<S: EventStore>(store: &Checked<S>) {
    let stream = format!("{}:common", id());
    let first = store.store(&stream, &progress(0)).await;
    let events = [message(json!({"jsonrpc": "2.0", "id": 1, "result": {}})), progress(1)];
    let mut expected = Vec::new();
    for event in &events {
        expected.push((store.store(&stream, event).await, json(event)));
    }
    same(&store.after(&first, 2).await, &expected);
}

/// Panics at the first event that is not the one that was stored.
fn same(replayed: &[(String, Value)], stored: &[(String, Value)]) {
    for (position, (replayed, stored)) in replayed.iter().zip(stored).enumerate() {
        let [replayed_text, stored_text] =
            [&replayed.1, &stored.1].map(|event| event.to_string().chars().take(300).collect::<String>());
        assert!(replayed == stored, "event {position}: {replayed_text} is replayed in place of {stored_text}");
    }
    assert_eq!(replayed.len(), stored.len(), "all events are replayed");
}

/// A store whose failures panic.
struct Checked<S>(S);

impl<S: EventStore> Checked<S> {
    async fn store(&self, stream: &str, event: &ServerSseMessage) -> String {
        self.0.store_event(stream, event).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the next `count` events after one, and resumes where the stream ends before.
    async fn after(&self, id: &str, count: usize) -> Vec<(String, Value)> {
        let (mut last, mut events) = (id.to_owned(), Vec::new());
        for _ in 0..MAX_RESUMPTIONS {
            let replay = self.0.replay_events_after(&last).await;
            let mut replay = replay.unwrap_or_else(|error| panic!("an event of this store: {error}"));
            while events.len() < count {
                let next = timeout(LONGEST, replay.next()).await;
                let Some(event) = next.unwrap_or_else(|_| panic!("the store hangs after {} events", events.len()))
                else {
                    break;
                };
                last = event.event_id.clone().unwrap_or_else(|| panic!("a replayed event has its id"));
                events.push((last.clone(), json(&event)));
            }
            if events.len() == count {
                return events;
            }
        }
        panic!("only {} of {count} events are replayed", events.len())
    }

    async fn is_refused(&self, id: &str) {
        assert!(self.0.replay_events_after(id).await.is_err(), "no event has the id `{id}`");
    }
}

fn progress(number: u64) -> ServerSseMessage {
    message(
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": number as f64}}),
    )
}

fn message(message: Value) -> ServerSseMessage {
    let message: ServerJsonRpcMessage =
        serde_json::from_value(message).unwrap_or_else(|error| panic!("a message of the server: {error}"));
    ServerSseMessage::from_message(message)
}

/// Returns what a client sees of an event, but for its id.
fn json(event: &ServerSseMessage) -> Value {
    let message = event.message.as_deref().map(serde_json::to_value);
    let message = message.transpose().unwrap_or_else(|error| panic!("{error}"));
    json!({"message": message, "retry_ms": event.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX))})
}
