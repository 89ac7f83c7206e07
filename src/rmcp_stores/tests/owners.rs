//! Streams whose owner has died, or is only slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use rmcp::transport::streamable_http_server::session::{EventStore, EventStoreError};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::*;
use crate::rmcp_stores::events::{KeptEvent, Log, NewEvent};
use crate::testing::databases::new_name;

on_every_store! {
    everybody_who_resumes_a_stream_of_a_dead_owner_gets_an_error_for_their_request => dead_owner_is_an_error;
    a_late_answer_does_not_follow_the_error => late_answer_is_refused;
    of_an_answer_and_an_error_at_the_same_time_every_client_gets_the_same_one => one_of_two_wins;
    an_owner_that_was_slow_goes_on_if_no_client_came_meanwhile => slow_owner_goes_on;
    the_stream_of_a_session_has_no_owner => common_streams_are_left_alone;
    a_client_that_does_not_say_its_request_ends_no_stream => unmarked_ids_end_nothing;
    the_error_drops_no_event_that_a_client_may_resume_from => error_drops_nothing;
    a_stream_is_abandoned_only_by_who_has_seen_its_last_event => only_the_last_event_is_marked;
}

fn start() -> ServerSseMessage {
    ServerSseMessage::retry(MINUTE)
}

/// Ends the lease of a process, as if it could not renew it.
async fn end_lease<L: Log>(store: &EventLog<L>) {
    let owner = store.hold_lease().await.unwrap().unwrap();
    store.log.renew(owner, Duration::from_millis(1)).await.unwrap();
    while store.log.lease_left(owner).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

async fn rest<L: Log>(store: &EventLog<L>, id: &str) -> Vec<(String, Value)> {
    let events = store.replay_events_after(id).await.unwrap();
    let json = |event: &ServerSseMessage| serde_json::to_value(event.message.as_deref()).unwrap();
    let events = events.map(|event| (event.event_id.clone().unwrap(), json(&event))).collect::<Vec<_>>();
    timeout(LONGEST, events).await.expect("the stream ends")
}

fn is_abandoned(error: &EventStoreError) -> bool {
    matches!(error.downcast_ref(), Some(EventLogError::Abandoned))
}

async fn dead_owner_is_an_error<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), new_name());
    let first = owner.store_event(&stream, &start()).await.unwrap();
    let second = owner.store_event(&stream, &notification("progress")).await.unwrap();
    end_lease(&owner).await;
    for request in ["7", "-1", "\"a-text\""] {
        let [first, second] = [&first, &second].map(|id| format!("{id}~{request}"));
        let got = join_all((0..6).map(|_| rest(&store, &second))).await;
        assert!(got.iter().all(|events| events == &got[0]), "all who resume at once get the same: {got:?}");
        let [(id, error)] = &got[0][..] else { panic!("one event: {got:?}") };
        assert_eq!(error["id"].to_string(), request);
        assert_eq!(error["error"]["data"]["mcp-patterns/rmcp"], "outcome_unknown");
        assert!(id.ends_with(&format!("~{request}")), "it can be resumed, too");
        assert_eq!(rest(&store, id).await, []);
        assert_eq!(&rest(&store, &first).await[1], &got[0][0], "whoever comes later gets it, too");
    }
    assert!(rest(&store, &second).await[0].1.is_null(), "whoever does not say their request gets the end");
}

async fn late_answer_is_refused<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), new_name());
    let first = owner.store_event(&stream, &start()).await.unwrap();
    end_lease(&owner).await;
    let error = rest(&store, &format!("{first}~1")).await;
    for late in [notification("progress"), answer()] {
        assert!(is_abandoned(&owner.store_event(&stream, &late).await.unwrap_err()));
    }
    assert_eq!(rest(&store, &format!("{first}~1")).await, error, "nothing follows it");
    owner.store_event(&new_name(), &start()).await.expect("other streams go on");
}

async fn one_of_two_wins<L: Log>(store: EventLog<L>) {
    let owner = store.clone().owned();
    for _ in 0..20 {
        let stream = new_name();
        let first = format!("{}~1", owner.store_event(&stream, &start()).await.unwrap());
        end_lease(&owner).await;
        let late = async {
            sleep(Duration::from_micros(fastrand::u64(0..3_000))).await;
            owner.store_event(&stream, &answer()).await
        };
        let (answered, got, others) = tokio::join!(late, rest(&store, &first), rest(&store, &first));
        let is_answer = got[0].1["result"].is_object();
        assert_eq!((got.len(), is_answer), (1, answered.is_ok()), "{got:?}");
        assert_eq!(others, got);
        assert!(answered.is_ok() || is_abandoned(&answered.unwrap_err()));
    }
}

async fn slow_owner_goes_on<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), new_name());
    let first = owner.store_event(&stream, &start()).await.unwrap();
    end_lease(&owner).await;
    owner.store_event(&stream, &answer()).await.expect("nobody was told anything else");
    let got = rest(&store, &format!("{first}~1")).await;
    assert!(got.len() == 1 && got[0].1["result"].is_object(), "{got:?}");
}

async fn only_the_last_event_is_marked<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), new_name());
    let first = owner.store_event(&stream, &start()).await.unwrap();
    let second = owner.store_event(&stream, &notification("progress")).await.unwrap();
    store.log.abandon(&first, "a secret", MINUTE).await.unwrap();
    let third = owner.store_event(&stream, &answer()).await.expect("the reader has missed an event");
    assert_eq!(rest(&store, &first).await.len(), 2, "{second} and {third}");
}

/// Resumes a stream, lets its reader look a few times, ends the stream with `last`, and returns what the reader gets.
async fn waits_for<L: Log>(store: &EventLog<L>, id: &str, stream: &str, last: &str) -> String {
    let mut events = store.replay_events_after(id).await.unwrap();
    sleep(Duration::from_millis(400)).await;
    store.store_event(stream, &notification(last)).await.expect("the stream goes on");
    text(&timeout(LONGEST, events.next()).await.expect("the stream goes on").expect("an event"))
}

async fn common_streams_are_left_alone<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), format!("{}:common", new_name()));
    owner.store_event(&new_name(), &start()).await.unwrap();
    let first = owner.store_event(&stream, &notification("1")).await.unwrap();
    end_lease(&owner).await;
    assert_eq!(waits_for(&store, &format!("{first}~1"), &stream, "2").await, "2");
}

async fn unmarked_ids_end_nothing<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned(), new_name());
    let first = owner.store_event(&stream, &start()).await.unwrap();
    end_lease(&owner).await;
    assert_eq!(waits_for(&store, &first, &stream, "2").await, "2");
    for malformed in ["", "~", "1.5", "{}", "\"", "null", "x"] {
        let error = store.replay_events_after(&format!("{first}~{malformed}")).await.err().expect(malformed);
        assert!(matches!(error.downcast_ref(), Some(EventLogError::UnknownEvent)), "{malformed}");
    }
}

async fn error_drops_nothing<L: Log>(store: EventLog<L>) {
    let (owner, stream) = (store.clone().owned().with_max_events(1).with_max_bytes(1), new_name());
    let only = format!("{}~1", owner.store_event(&stream, &start()).await.unwrap());
    end_lease(&owner).await;
    let error = rest(&store, &only).await;
    assert_eq!(error.len(), 1);
    assert_eq!(rest(&store, &only).await, error);
}

/// A log that counts its round trips, and fails where the test says so.
struct Watched {
    log: Arc<crate::rmcp_stores::SqlEvents<Sqlite>>,
    appends: AtomicUsize,
    others: AtomicUsize,
    leases: AtomicUsize,
    fails: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl Log for Watched {
    const NAME: &'static str = "Watched";

    async fn append(&self, event: NewEvent<'_>) -> Result<Option<String>, EventLogError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.log.append(event).await
    }

    async fn read_from(&self, id: &str, limit: usize) -> Result<Option<Vec<KeptEvent>>, EventLogError> {
        self.log.read_from(id, limit).await
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<(), EventLogError> {
        self.others.fetch_add(1, Ordering::SeqCst);
        self.log.touch(id, ttl).await
    }

    async fn abandon(&self, last: &str, secret: &str, ttl: Duration) -> Result<(), EventLogError> {
        self.others.fetch_add(1, Ordering::SeqCst);
        self.log.abandon(last, secret, ttl).await
    }

    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), EventLogError> {
        self.others.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(EventLogError::Backend("it fails".into()));
        }
        self.log.renew(owner, lease).await
    }

    async fn lease_left(&self, owner: &str) -> Result<Option<Duration>, EventLogError> {
        self.leases.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(EventLogError::Backend("it fails".into()));
        }
        self.log.lease_left(owner).await
    }
}

async fn watched() -> (EventLog<Watched>, SqliteFile) {
    let (store, file) = sqlite().await;
    let count = || AtomicUsize::new(0);
    let (fails, hangs) = (AtomicBool::new(false), AtomicBool::new(false));
    let log = Watched { log: store.log, appends: count(), others: count(), leases: count(), fails, hangs };
    (EventLog::on(log).owned(), file)
}

#[tokio::test]
async fn a_lease_costs_a_call_no_round_trip_but_the_first_of_the_process() {
    let (store, _file) = watched().await;
    for _ in 0..10 {
        let stream = new_name();
        store.store_event(&stream, &start()).await.unwrap();
        store.store_event(&stream, &answer()).await.unwrap();
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    assert_eq!((count(&store.log.appends), count(&store.log.others)), (20, 1));
}

#[tokio::test]
async fn a_resumed_stream_asks_for_the_lease_of_its_owner_once_until_the_lease_ends() {
    let (store, _file) = watched().await;
    let stream = new_name();
    let first = store.store_event(&stream, &start()).await.unwrap();
    let mut events = store.clone().with_poll_interval(Duration::from_millis(1));
    events.owner = None;
    let mut events = events.replay_events_after(&format!("{first}~1")).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(store.log.leases.load(Ordering::SeqCst), 1);
    store.store_event(&stream, &answer()).await.unwrap();
    assert_eq!(text(&timeout(LONGEST, events.next()).await.unwrap().unwrap()), "the answer");
}

#[tokio::test]
async fn a_store_that_cannot_tell_whether_an_owner_lives_ends_the_connection_and_not_the_call() {
    let (store, _file) = watched().await;
    let stream = new_name();
    let first = format!("{}~1", store.store_event(&stream, &start()).await.unwrap());
    end_lease(&store).await;
    store.log.fails.store(true, Ordering::SeqCst);
    assert_eq!(rest(&store, &first).await, [], "no error, and no answer: the client comes back");
    store.store_event(&stream, &answer()).await.expect("the call goes on");
    store.log.fails.store(false, Ordering::SeqCst);
    assert_eq!(rest(&store, &first).await.len(), 1);
}

#[tokio::test]
async fn a_process_that_gets_no_lease_begins_no_stream() {
    let (store, _file) = watched().await;
    store.log.fails.store(true, Ordering::SeqCst);
    store.store_event(&new_name(), &start()).await.unwrap_err();
    assert_eq!(store.log.appends.load(Ordering::SeqCst), 0, "a client could take the process for dead");
    store.log.fails.store(false, Ordering::SeqCst);
    store.store_event(&new_name(), &start()).await.expect("the next one tries again");
}

#[tokio::test]
async fn streams_that_begin_together_wait_together_for_a_store_that_hangs() {
    let (store, _file) = watched().await;
    let store = store.with_backend_timeout(Duration::from_millis(500));
    store.log.hangs.store(true, Ordering::SeqCst);
    let begin = async || store.store_event(&new_name(), &start()).await.unwrap_err();
    // One after the other would take 50 seconds.
    timeout(LONGEST, join_all((0..100).map(|_| begin()))).await.expect("each waits for one step");
    store.log.hangs.store(false, Ordering::SeqCst);
    store.store_event(&new_name(), &start()).await.expect("the next one tries again");
}

#[tokio::test]
async fn tools_that_take_all_connections_do_not_end_the_lease_of_their_process() {
    let lease = Duration::from_millis(1_500);
    let pool = databases::postgres_schema(databases::postgres_options(), 3).await;
    SqlEventStore::ensure_schema(&pool).await.unwrap();
    let owner = SqlEventStore::new(pool.clone()).with_lease(lease).owned();
    let beside = SqlEventStore::new(sqlx::PgPool::connect_with(pool.connect_options().as_ref().clone()).await.unwrap());
    owner.store_event(&new_name(), &start()).await.unwrap();
    let id = owner.hold_lease().await.unwrap().unwrap();
    let mut taken = Vec::new();
    while let Ok(Ok(connection)) = timeout(Duration::from_millis(300), pool.acquire()).await {
        taken.push(connection);
    }
    assert!(taken.len() >= 2, "all but the one of the lease");
    sleep(2 * lease).await;
    assert!(beside.log.lease_left(id).await.unwrap().is_some(), "it was renewed meanwhile");
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_store_lives_and_ends_after_it() {
    let (store, file) = sqlite().await;
    let store = store.with_lease(Duration::from_millis(1_500));
    let owned = store.clone().owned();
    let first = owned.store_event(&new_name(), &start()).await.unwrap();
    let owner = owned.hold_lease().await.unwrap().unwrap().to_owned();
    for _ in 0..10 {
        sleep(Duration::from_millis(400)).await;
        assert!(store.log.lease_left(&owner).await.unwrap().is_some(), "a process that lives has its lease");
    }
    drop(owned);
    let ended = async {
        while store.log.lease_left(&owner).await.unwrap().is_some() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONGEST, ended).await.expect("the lease ends");
    SqlEventStore::sweep(&file.pool).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from mcp_patterns_rmcp_events").fetch_one(&file.pool).await.unwrap();
    assert_eq!(rows, 1, "and nothing of it stays");
    assert_eq!(rest(&store, &format!("{first}~1")).await.len(), 1);
}
