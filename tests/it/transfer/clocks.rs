//! Replicas whose clocks are wrong: money still moves once for each key.

use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::books::Books;
use super::{data, keyed, replayed, transfer, two_accounts};
use crate::client::{Transport, patiently, text};
use crate::support::Database;
use crate::wrong_clock::{OnWrongClock, day};

async fn replica(by: &str, database: &Database) -> OnWrongClock {
    OnWrongClock::start(by, "transfer", Transport::Http, &["--database-url", &database.url()]).await
}

#[tokio::test]
async fn a_key_pays_once_through_replicas_whose_clocks_are_two_days_apart() {
    patiently(async {
        let database = Database::postgres().await;
        let (_right, right) = two_accounts(&database, Transport::Http).await;
        let tomorrow = day(1);
        let (mut ahead, mut behind) = (replica("+1d", &database).await, replica("-1d", &database).await);
        assert!(ahead.last_logged_day() >= tomorrow, "its clock is ahead: {}", ahead.last_logged_day());
        assert!(behind.last_logged_day() < day(0), "its clock is behind: {}", behind.last_logged_day());
        let clients = [right, ahead.connect().await, behind.connect().await];
        for (number, first) in clients.iter().enumerate() {
            let call = keyed(transfer(format!("{}.00", number + 1)), &format!("key-{number}"));
            let paid = first.call("transfer", call.clone()).await;
            assert!(!replayed(&paid), "{paid:?}");
            for client in clients.iter().chain(&clients) {
                let again = client.call("transfer", call.clone()).await;
                assert_eq!(text(&again), text(&paid));
                assert!(replayed(&again), "paid by replica {number}: {again:?}");
            }
        }
        let books = Books::of(&database).await;
        books.check();
        assert_eq!(books.times(), [(100, 1), (200, 1), (300, 1)].into());
    })
    .await;
}

#[tokio::test]
async fn the_sweep_of_a_replica_whose_clock_is_a_day_ahead_deletes_no_unexpired_key() {
    patiently(async {
        let database = Database::postgres().await;
        let (_right, right) = two_accounts(&database, Transport::Http).await;
        let mut behind = replica("-1d", &database).await;
        let paid = [right.call("transfer", keyed(transfer("1.00"), "right")).await, {
            let client = behind.connect().await;
            client.call("transfer", keyed(transfer("2.00"), "behind")).await
        }];
        let mut db = PgConnection::connect(&database.url()).await.expect("a connection");
        let expired = "insert into mcp_patterns_idempotency (id, tool, key, fingerprint, result, created_at, expires_at) \
                       values ('expired', 't', 'k', 'f', '{}', 0, 0)";
        sqlx::query(expired).execute(&mut db).await.expect("a record");

        // Each replica sweeps with its first key.
        let mut ahead = replica("+1d", &database).await;
        data(&ahead.connect().await.call("transfer", keyed(transfer("3.00"), "ahead")).await);
        let is_there = "select exists (select from mcp_patterns_idempotency where id = 'expired')";
        while sqlx::query_scalar::<_, bool>(is_there).fetch_one(&mut db).await.expect("an answer") {}
        let kept: i64 = sqlx::query_scalar("select count(*) from mcp_patterns_idempotency where result is not null")
            .fetch_one(&mut db)
            .await
            .expect("a number");
        assert_eq!(kept, 3, "what lives is kept");
        for (paid, (amount, key)) in paid.iter().zip([("1.00", "right"), ("2.00", "behind")]) {
            let again = right.call("transfer", keyed(transfer(amount), key)).await;
            assert!(replayed(&again) && text(&again) == text(paid), "{again:?}");
        }
        assert_eq!(Books::of(&database).await.times(), [(100, 1), (200, 1), (300, 1)].into());
    })
    .await;
}

#[tokio::test]
async fn a_key_pays_once_while_the_clock_of_a_server_is_set_days_forward_and_back() {
    patiently(async {
        let database = Database::postgres().await;
        let (_right, _) = two_accounts(&database, Transport::Http).await;
        let mut server = replica("+0", &database).await;
        let client = server.connect().await;
        let call = |number: i64| keyed(transfer(json!(number)), &format!("key-{number}"));
        for (number, by) in (1..).zip(["+0", "+2d", "-2d", "+400d", "-400d", "+0"]) {
            server.set(by);
            assert!(!replayed(&client.call("transfer", call(number)).await));
            for earlier in 1..=number {
                assert!(
                    replayed(&client.call("transfer", call(earlier)).await),
                    "set to {by}: {earlier} was paid again"
                );
            }
        }
        let books = Books::of(&database).await;
        books.check();
        assert!(books.times().into_values().eq([1; 6]));
    })
    .await;
}
