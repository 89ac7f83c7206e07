//! Sessions: confirmed changes are kept, and no value is returned twice.

use std::collections::HashSet;

use futures_util::future::join_all;
use rmcp::model::CallToolResult;
use serde_json::json;

use super::{CALLERS, World, for_each_seed};
use crate::client::text;

const CALLS: usize = 150;
const USERS: [&str; 2] = ["ada", "grace"];
const ARGS: [&str; 6] = ["--session-mode", "principal", "--user", "ada=ada", "--user", "grace=grace"];

/// The outcomes of the calls for one user.
#[derive(Debug, Default)]
struct Counted {
    values: Vec<i64>,
    /// Calls with an unknown outcome.
    unknown: i64,
}

fn value(answer: &CallToolResult) -> Option<i64> {
    if answer.is_error != Some(true) {
        return Some(text(answer).parse().expect("a number"));
    }
    let kind = &json!(answer.meta)["io.turbomcp/errorKind"];
    assert!(["unavailable", "timeout", "internal"].iter().any(|known| kind == known), "{answer:?}");
    None
}

/// Makes all callers of a user count, each until this many calls are confirmed.
async fn count(world: &World, seed: u64, user: usize) -> Counted {
    let callers = (0..CALLERS / USERS.len()).map(|number| async move {
        let mut caller = world.caller(Some(USERS[user]), seed * 100 + (10 * user + number) as u64);
        let mut counted = Counted::default();
        while counted.values.len() < CALLS / CALLERS {
            match caller.call("increment_mine", json!({ "name": "x" })).await.as_ref().and_then(value) {
                Some(value) => counted.values.push(value),
                None => counted.unknown += 1,
            }
        }
        counted
    });
    join_all(callers).await.into_iter().fold(Counted::default(), |mut all, counted| {
        all.values.extend(counted.values);
        all.unknown += counted.unknown;
        all
    })
}

async fn survive(seed: u64) {
    let world = World::on_redis("counter", "--sessions", &ARGS).await;

    let counted = async { join_all((0..USERS.len()).map(|user| count(&world, seed, user))).await };
    let counted = world.rage(seed, CALLS, counted).await;

    for (user, counted) in USERS.iter().zip(counted) {
        let mut caller = world.caller(Some(user), seed);
        let found = loop {
            let answer = caller.call("get_mine", json!({ "name": "x" })).await;
            if let Some(found) = answer.as_ref().and_then(value) {
                break found;
            }
        };
        let confirmed = counted.values.len() as i64;
        let unknown = counted.unknown;
        assert!(
            (confirmed..=confirmed + unknown).contains(&found),
            "{user}: {confirmed} confirmed, {unknown} unknown: {found} found"
        );
        let distinct: HashSet<_> = counted.values.iter().collect();
        assert_eq!(distinct.len(), counted.values.len(), "{user}: a value was given twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_keep_every_confirmed_step_of_a_session_under_any_fault() {
    for_each_seed(survive).await;
}
