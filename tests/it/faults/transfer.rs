//! Money: each key moves it once, and none is lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::{CALLERS, World, for_each_seed};
use crate::transfer::books::Books;
use crate::transfer::{ACCOUNTS, is_done, numbered};

const CALLS: usize = 180;

/// The longest time until nothing is left behind. It bounds a failure and measures nothing.
const LEFT_BEHIND: Duration = Duration::from_secs(180);

/// Repeats every call until it is done.
async fn transfer_all(world: &World, seed: u64) {
    join_all((0..CALLERS).map(|number| async move {
        let mut caller = world.caller(None, seed * 100 + number as u64);
        for number in (1..=CALLS).skip(number).step_by(CALLERS) {
            while !caller.call("transfer", numbered(number as i64)).await.is_some_and(|answer| is_done(&answer)) {}
        }
    }))
    .await;
}

/// Each replica has all its connections again: this many concurrent callers are all served. The first ones may be refused: they find
/// the connections that do not answer any more.
pub(super) async fn all_are_served(world: &World, tool: &str, arguments: &Value) {
    let began = Instant::now();
    loop {
        let served = join_all((0..40).map(|number| async move {
            let mut caller = world.caller(None, number);
            loop {
                // A caller whose replica has ended reconnects.
                if let Some(answer) = caller.call(tool, arguments.clone()).await {
                    return answer;
                }
            }
        }))
        .await;
        let Some(refused) = served.iter().find(|answer| answer.is_error == Some(true)) else { return };
        let kind = &json!(refused.meta)["io.turbomcp/errorKind"];
        assert!(kind == "unavailable" && began.elapsed() < LEFT_BEHIND, "{refused:?}");
    }
}

/// No open transaction holds locks or changes. A failed or empty one ends with its connection.
pub(super) async fn nothing_is_left(url: &str) {
    let mut db = PgConnection::connect(url).await.expect("a connection");
    let began = Instant::now();
    loop {
        let open = "select concat(state, ' since ', state_change, ': ', query) from pg_stat_activity \
                    where backend_type = 'client backend' and pid <> pg_backend_pid() \
                    and coalesce(backend_xid, backend_xmin) is not null";
        let open: Vec<String> = sqlx::query_scalar(open).fetch_all(&mut db).await.expect("it lists them");
        if open.is_empty() {
            return;
        }
        assert!(began.elapsed() < LEFT_BEHIND, "transactions are left open: {open:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn survive(seed: u64) {
    let world = World::on_postgres("transfer", "--database-url").await;
    let mut caller = world.caller(None, seed);
    for _ in 0..ACCOUNTS {
        let opened = caller.call("open_account", json!({ "owner": "acme", "deposit": "10000.00" })).await;
        assert!(opened.is_some_and(|answer| is_done(&answer)));
    }

    world.rage(seed, CALLS, transfer_all(&world, seed)).await;

    all_are_served(&world, "balance", &json!({ "account": 1 })).await;
    // A repeated call gets the first answer, from either replica, whatever its clock says.
    transfer_all(&world, seed + 1).await;
    nothing_is_left(&world.postgres()).await;
    let books = Books::at(&world.postgres()).await;
    books.check();
    let once: HashMap<i64, usize> = (1..=CALLS).map(|number| (number as i64, 1)).collect();
    assert_eq!(books.times(), once);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_make_every_transfer_once_under_any_fault() {
    for_each_seed(survive).await;
}
