//! One load on all replicas together.

use futures_util::future::join_all;

use super::fleet::*;
use super::*;

#[tokio::test(start_paused = true)]
async fn five_thousand_misses_on_two_replicas_run_one_load_with_a_lease() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(5 * SECOND)).await;
    let (a, b) = (a.server, b.server);
    let callers = (0..5_000).map(|caller| {
        let server = if caller % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { read(&server).await })
    });
    for answer in join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(answer.expect("an answer"), "0");
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_never_released_blocks_no_caller_past_its_duration() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(SECOND)).await;
    let gate = Gate::closed();
    *source.gate.lock().expect("no panic") = Some(gate.clone());
    let stuck = tokio::spawn(async move { a.read().await });
    settle().await;
    *source.gate.lock().expect("no panic") = None;
    let began = tokio::time::Instant::now();
    assert_eq!(b.read().await, 0);
    assert!(began.elapsed() < 2 * SECOND, "on a paused clock");
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_load_releases_its_lease() {
    let source = Source::default();
    let (a, b) = two(&source, |layer| layer.with_lease(100 * SECOND)).await;
    let gate = Gate::closed();
    *source.gate.lock().expect("no panic") = Some(gate.clone());
    let server = a.server.clone();
    let dropped = tokio::spawn(async move { read(&server).await });
    settle().await;
    *source.gate.lock().expect("no panic") = None;
    dropped.abort();
    settle().await;
    let began = tokio::time::Instant::now();
    b.read().await;
    assert!(began.elapsed() < SECOND, "on a paused clock");
}
