use super::*;

/// A batcher with a running batch and `queue` places for waiting calls.
async fn busy(gate: &Gate, sent: &Sent, queue: usize) -> Batcher<u64, u64> {
    let batcher = tenfold_gated(gate, sent)
        .with_max_in_flight(1)
        .with_max_queue(queue)
        .with_groups(|key| (key / 100).to_be_bytes());
    load(&batcher, 0);
    settle().await;
    batcher
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_with_a_retry_hint() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = busy(&gate, &sent, 2).await;
    let waiting = [load(&batcher, 1), load(&batcher, 2)];
    settle().await;
    let refused = batcher.load(&(), 3).await.expect_err("no room");
    assert_eq!(refused.kind, ErrorKind::ServerOverloaded);
    assert_eq!(refused.data().expect("a hint")["retryAfterMs"], 1000);
    assert_eq!((batcher.stats().queued, batcher.stats().refused), (2, 1));
    gate.open_for(2);
    assert!(join_all(waiting).await.into_iter().all(|call| call.expect("no panic").is_ok()));
    assert_eq!(sent.keys(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn callers_who_left_take_no_room_in_the_queue() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = busy(&gate, &sent, 2).await;
    let leaving = [load(&batcher, 1), load(&batcher, 2)];
    settle().await;
    leaving.iter().for_each(JoinHandle::abort);
    settle().await;
    let stays = load(&batcher, 3);
    settle().await;
    assert_eq!(batcher.stats().queued, 1);
    gate.open_for(2);
    assert_eq!(stays.await.expect("no panic").expect("a number"), 30);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_fills_the_queue_makes_room_for_another() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = busy(&gate, &sent, 5).await;
    let greedy: Vec<_> = (1..6).map(|key| load(&batcher, key)).collect();
    settle().await;
    let modest: Vec<_> = (101..104).map(|key| load(&batcher, key)).collect();
    settle().await;
    gate.open_for(3);
    let answered = |calls: Vec<Result<McpResult<u64>, _>>| -> Vec<_> {
        calls.into_iter().map(|call: Result<_, tokio::task::JoinError>| call.expect("no panic").is_ok()).collect()
    };
    // Each group has half of the queue: the newest call of the greedy group was evicted, and then the newest of the
    // other, which would only move the odd place.
    assert_eq!(answered(join_all(greedy).await), [true, true, true, false, false]);
    assert_eq!(answered(join_all(modest).await), [true, true, false]);
    assert_eq!(batcher.stats().refused, 3);
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_room_with_wait_when_full() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).wait_when_full().with_max_queue(2);
    let calls: Vec<_> = (0..8).map(|key| load(&batcher, key)).collect();
    settle().await;
    assert!(batcher.stats().queued <= 2);
    gate.open_for(8);
    assert!(join_all(calls).await.into_iter().all(|call| call.expect("no panic").is_ok()));
    assert_eq!((sent.keys(), batcher.stats().refused), ((0..8).collect(), 0));
    assert!(sent.sizes().into_iter().all(|size| size <= 2));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_waiting_for_room_takes_none() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).wait_when_full().with_max_queue(1);
    let calls: Vec<_> = (0..5).map(|key| load(&batcher, key)).collect();
    settle().await;
    calls[3].abort();
    settle().await;
    gate.open_for(8);
    let answered: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(numbers(answered), [0, 10, 20, 40]);
    assert_eq!(sent.keys(), [0, 1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_call_no_longer_adds_weight() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent)
        .with_groups(|key| (key / 100).to_be_bytes())
        .with_max_weight(10, |key| key % 100)
        .with_max_delay(Duration::from_secs(1))
        .with_max_in_flight(1)
        .with_max_queue(2);
    let first = load(&batcher, 10);
    settle().await;
    let [stays, goes] = [5, 6].map(|key| load(&batcher, key));
    settle().await;
    let other = load(&batcher, 101);
    assert_eq!(kind(goes.await.expect("no panic")), ErrorKind::ServerOverloaded);
    gate.open_for(3);
    first.await.expect("no panic").expect("a number");
    settle().await;
    assert_eq!(sent.all(), [[10]], "what is left of the group is not heavy enough to go at once");
    assert_eq!(stays.await.expect("no panic").expect("a number"), 50);
    assert_eq!(other.await.expect("no panic").expect("a number"), 1010);
}
