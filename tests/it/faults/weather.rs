//! Answers: the cache works without its level during a fault, and shares again afterwards.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{CALLERS, World, for_each_seed};
use crate::client::text;
use crate::weather::FIFTY_CITIES;

const CALLS: usize = 240;

/// The longest time until answers are shared again. It bounds a failure and measures nothing.
const SHARED_AGAIN: Duration = Duration::from_secs(180);

/// Asks for the weather of many cities: every answer is the right weather.
async fn ask(world: &World, seed: u64) {
    join_all((0..CALLERS).map(|number| async move {
        let mut caller = world.caller(None, seed * 100 + number as u64);
        let mut rng = fastrand::Rng::with_seed(seed * 1_000 + number as u64);
        let mut answered = 0;
        while answered < CALLS / CALLERS {
            let city = FIFTY_CITIES[rng.usize(..FIFTY_CITIES.len())];
            if let Some(answer) = caller.call("get_forecast", json!({ "city": city })).await {
                assert!(text(&answer).contains(city), "{answer:?}");
                answered += 1;
            }
        }
    }))
    .await;
}

async fn survive(seed: u64) {
    let world = World::on_redis("weather", "--cache", &["--latency-ms", "2"]).await;

    world.rage(seed, CALLS, ask(&world, seed)).await;

    // A new replica finds the values that another has loaded.
    let began = Instant::now();
    loop {
        ask(&world, seed + 1).await;
        world.replicas.kill(0).await;
        let mut caller = world.caller(None, seed).only(0);
        let mut has_shared = false;
        for city in &FIFTY_CITIES[..10] {
            let answer = caller.call("get_forecast", json!({ "city": city })).await;
            has_shared |= answer.is_some_and(|answer| json!(answer.meta)["mcp-patterns/cache"]["level"] == 2);
        }
        if has_shared {
            return;
        }
        assert!(began.elapsed() < SHARED_AGAIN, "the replicas do not share any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_answer_every_call_and_share_answers_again_under_any_fault() {
    for_each_seed(survive).await;
}
