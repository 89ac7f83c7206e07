//! A killed server, and a killed database.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::json;
use sqlx::ConnectOptions;

use super::books::Books;
use super::{ACCOUNTS, data, is_done, numbered, replayed, serve};
use crate::client::{Client, Transport, patiently, text};
use crate::private_postgres::PrivatePostgres;
use crate::support::Database;

const CALLS: i64 = 500;
const AT_ONCE: usize = 16;

async fn open_accounts(client: &Client) {
    for _ in 0..ACCOUNTS {
        data(&client.call("open_account", json!({ "owner": "acme", "deposit": "10000.00" })).await);
    }
}

/// Makes the call, and returns the number of attempts for its answer. An unknown outcome counts as no answer.
async fn attempts(client: &Client, number: i64) -> Option<u64> {
    let answer = client.try_call("transfer", numbered(number)).await.ok()?;
    if !is_done(&answer) {
        return None;
    }
    assert!(text(&answer).starts_with("Transferred $"), "{answer:?}");
    Some(json!(answer.meta)["mcp-patterns/attempts"].as_u64().unwrap_or(1))
}

async fn every_call_was_made_once(database: &Database) {
    let books = Books::of(database).await;
    books.check();
    assert_eq!(books.times(), (1..=CALLS).map(|number| (number, 1)).collect());
}

async fn a_repeatedly_killed_server_makes_every_transfer_once(database: Database) {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut waiting: BTreeSet<i64> = (1..=CALLS).collect();
    let mut lives = 0;
    while !waiting.is_empty() {
        let mut server = serve(&database, Transport::Stdio).await;
        let client = server.connect().await;
        if lives == 0 {
            open_accounts(&client).await;
        }
        lives += 1;
        let mut server = Some(server);
        let mut until = rng.usize(20..100);
        let sent: Vec<_> = waiting.iter().copied().collect();
        let mut calls = stream::iter(&sent)
            .map(|&number| {
                let client = &client;
                async move { (number, attempts(client, number).await.is_some()) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((number, answered)) = calls.next().await {
            if answered {
                waiting.remove(&number);
            }
            until = until.saturating_sub(1);
            if until == 0 {
                // A dropped server is killed, together with up to fifteen calls.
                server.take();
            }
        }
    }
    assert!(lives >= 5, "killed {} times only", lives - 1);
    every_call_was_made_once(&database).await;

    // A repeated call gets the first answer even after all that.
    let mut server = serve(&database, Transport::Stdio).await;
    let client = server.connect().await;
    for number in [1, CALLS / 2, CALLS] {
        assert!(replayed(&client.call("transfer", numbered(number)).await));
    }
    every_call_was_made_once(&database).await;
}

#[tokio::test]
async fn a_repeatedly_killed_server_on_a_file_makes_every_transfer_once() {
    patiently(a_repeatedly_killed_server_makes_every_transfer_once(Database::file())).await;
}

#[tokio::test]
async fn a_repeatedly_killed_server_on_postgres_makes_every_transfer_once() {
    patiently(async { a_repeatedly_killed_server_makes_every_transfer_once(Database::postgres().await).await }).await;
}

/// Makes calls until each has its answer, and returns how many of them met the unreachable database: the server retried
/// them, or returned a failure.
async fn call_until_answered(client: &Client, numbers: impl Iterator<Item = i64>) -> usize {
    let call = |number| async move {
        let mut gave_up = 0;
        loop {
            match attempts(client, number).await {
                Some(attempts) => return gave_up + usize::from(attempts > 1),
                None => gave_up += 1,
            }
        }
    };
    stream::iter(numbers).map(call).buffer_unordered(AT_ONCE).fold(0, async |sum, noticed| sum + noticed).await
}

#[tokio::test]
async fn every_transfer_is_made_once_although_postgres_restarts() {
    patiently(async {
        let postgres = Arc::new(PrivatePostgres::start(""));
        let database = Database::on(postgres.options().to_url_lossy().as_str()).await;
        let mut server = serve(&database, Transport::Stdio).await;
        let client = server.connect().await;
        open_accounts(&client).await;

        call_until_answered(&client, 1..=50).await;
        for (signal, mut numbers) in [("QUIT", 51..=250), ("INT", 251..=450)] {
            let restarting = tokio::task::spawn_blocking({
                let postgres = Arc::clone(&postgres);
                move || postgres.restart(signal)
            });
            // Callers with an answer repeat their calls until the end.
            let calls = iter::from_fn(|| numbers.next().or_else(|| (!restarting.is_finished()).then_some(1)));
            let noticed = call_until_answered(&client, calls).await;
            restarting.await.expect("PostgreSQL restarts");
            assert!(noticed > 0, "no call noticed that PostgreSQL was unreachable");
        }
        call_until_answered(&client, 451..=CALLS).await;

        every_call_was_made_once(&database).await;
    })
    .await;
}
