//! Two servers on one database.

use futures_util::future::{join, join_all};
use serde_json::json;

use super::books::Books;
use super::{data, replayed, serve, two_accounts};
use crate::client::{Transport, patiently, text};
use crate::support::Database;

async fn a_hundred_calls_with_one_key_have_one_effect_and_equal_answers(database: Database) {
    let (_first, one) = two_accounts(&database, Transport::Stdio).await;
    let mut second = serve(&database, Transport::Http).await;
    let two = second.connect().await;

    let arguments = json!({ "from_account": 1, "to_account": 2, "amount": "12.50", "idempotency_key": "order-1" });
    let calls = (0..100).map(|call| {
        let client = if call % 2 == 0 { &one } else { &two };
        client.call("transfer", arguments.clone())
    });
    let answers = join_all(calls).await;

    for answer in &answers {
        assert_eq!(text(answer), "Transferred $12.50 from 1 to 2");
        assert_eq!(data(answer), data(&answers[0]));
    }
    assert_eq!(answers.iter().filter(|answer| !replayed(answer)).count(), 1, "one answer is the first");
    let books = Books::of(&database).await;
    books.check();
    assert_eq!(books.times(), [(1_250, 1)].into());
}

#[tokio::test]
async fn a_hundred_calls_with_one_key_through_two_servers_on_a_file_have_one_effect() {
    patiently(a_hundred_calls_with_one_key_have_one_effect_and_equal_answers(Database::file())).await;
}

#[tokio::test]
async fn a_hundred_calls_with_one_key_through_two_servers_on_postgres_have_one_effect() {
    patiently(async {
        a_hundred_calls_with_one_key_have_one_effect_and_equal_answers(Database::postgres().await).await;
    })
    .await;
}

async fn opposite_transfers_do_not_deadlock(database: Database) {
    let (_first, one) = two_accounts(&database, Transport::Stdio).await;
    let mut second = serve(&database, Transport::Stdio).await;
    let two = second.connect().await;

    let calls = (0..100).map(|call| {
        let (client, from, to) = if call % 2 == 0 { (&one, 1, 2) } else { (&two, 2, 1) };
        client.call("transfer", json!({ "from_account": from, "to_account": to, "amount": "1.00" }))
    });
    for answer in join_all(calls).await {
        data(&answer);
    }
    let books = Books::of(&database).await;
    books.check();
    assert_eq!(books.times(), [(100, 100)].into());
}

#[tokio::test]
async fn opposite_transfers_on_a_file_all_succeed() {
    patiently(opposite_transfers_do_not_deadlock(Database::file())).await;
}

#[tokio::test]
async fn opposite_transfers_on_postgres_all_succeed() {
    patiently(async { opposite_transfers_do_not_deadlock(Database::postgres().await).await }).await;
}

async fn servers_that_start_together_find_or_make_the_tables(database: Database) {
    for _ in 0..3 {
        let (one, two) = join(serve(&database, Transport::Http), serve(&database, Transport::Http)).await;
        for mut server in [one, two] {
            let client = server.connect().await;
            data(&client.call("open_account", json!({ "owner": "acme", "deposit": 1 })).await);
        }
    }
    Books::of(&database).await.check();
}

#[tokio::test]
async fn servers_that_start_together_on_a_file_both_serve() {
    patiently(servers_that_start_together_find_or_make_the_tables(Database::file())).await;
}

#[tokio::test]
async fn servers_that_start_together_on_postgres_both_serve() {
    patiently(async { servers_that_start_together_find_or_make_the_tables(Database::postgres().await).await }).await;
}
