//! Sessions survive on replicas with wrong clocks, and while clocks are set.

use serde_json::json;

use super::{opened, redis_url};
use crate::client::{Server, Transport, patiently, text};
use crate::support::Database;
use crate::wrong_clock::{OnWrongClock, day};

/// Its sessions end after an hour without use, and after a day in any case.
async fn sessions_survive_on_replicas_whose_clocks_are_two_days_apart(store: &str) {
    let args = ["--sessions", store, "--session-mode", "handle"];
    let mut right = Server::start("counter", Transport::Http, &args).await;
    let mut ahead = OnWrongClock::start("+1d", "counter", Transport::Http, &args).await;
    let mut behind = OnWrongClock::start("-1d", "counter", Transport::Http, &args).await;
    let clients = [right.connect().await, ahead.connect().await, behind.connect().await];
    for (number, first) in clients.iter().enumerate() {
        let session = opened(first).await;
        let args = json!({ "name": "x", "session": session });
        let mut expected = 0;
        for client in clients.iter().chain(&clients) {
            expected += 1;
            let value = client.call("increment_mine", args.clone()).await;
            assert_eq!(text(&value), expected.to_string(), "opened by replica {number}");
            for client in &clients {
                assert_eq!(text(&client.call("get_mine", args.clone()).await), expected.to_string());
            }
        }
        first.call("close_session", json!({ "session": session })).await;
    }
}

#[tokio::test]
async fn sessions_in_redis_survive_on_replicas_whose_clocks_are_two_days_apart() {
    patiently(sessions_survive_on_replicas_whose_clocks_are_two_days_apart(&redis_url())).await;
}

#[tokio::test]
async fn sessions_in_postgres_survive_on_replicas_whose_clocks_are_two_days_apart() {
    patiently(async {
        let database = Database::postgres().await;
        sessions_survive_on_replicas_whose_clocks_are_two_days_apart(&database.url()).await;
    })
    .await;
}

async fn sessions_survive_while_the_clock_is_set(store: &str) {
    let mut server = OnWrongClock::start("+0", "counter", Transport::Stdio, &["--sessions", store]).await;
    let client = server.connect().await;
    for (number, (by, days)) in (1..).zip([("+0", 0), ("+3d", 3), ("-3d", -3), ("+400d", 400), ("+0", 0)]) {
        server.set(by);
        let before = day(days);
        let value = client.call("increment_mine", json!({ "name": "x" })).await;
        assert_eq!(text(&value), number.to_string(), "set to {by}");
        // The log entry of the call is written before its answer, but may be read later.
        let meanwhile = [before, day(days)];
        while !meanwhile.contains(&server.last_logged_day()) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn sessions_in_memory_survive_while_the_clock_is_set_days_forward_and_back() {
    patiently(sessions_survive_while_the_clock_is_set("memory")).await;
}

#[tokio::test]
async fn sessions_in_redis_survive_while_the_clock_is_set_days_forward_and_back() {
    patiently(sessions_survive_while_the_clock_is_set(&redis_url())).await;
}
