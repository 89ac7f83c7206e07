use super::*;

#[tokio::test(start_paused = true)]
async fn a_lone_call_waits_for_no_timer() {
    let sent = Sent::default();
    let batcher = Batcher::new(tenfold_after(&sent, || std::future::ready(())));
    let start = Instant::now();
    assert_eq!(batcher.load(&(), 7).await.expect("a number"), 70);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(sent.all(), [[7]]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_take_no_more_than_twelve_batches_of_a_hundred() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_size(100);
    let calls: Vec<_> = (0..1000).map(|key| load(&batcher, key)).collect();
    for (key, call) in (0..).zip(join_all(calls).await) {
        assert_eq!(call.expect("no panic").expect("a number"), key * 10);
    }
    assert!(sent.all().len() <= 12, "{:?}", sent.sizes());
    assert!(sent.sizes().iter().all(|size| *size <= 100), "{:?}", sent.sizes());
    assert_eq!(sent.keys(), (0..1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn each_caller_gets_the_result_at_the_position_of_its_call() {
    let sent = Sent::default();
    let answers = load_all(&tenfold(&sent), [3, 1, 2]).await;
    assert_eq!(numbers(answers), [30, 10, 20]);
    assert_eq!(sent.all(), [[3, 1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_arrive_while_all_places_are_taken_share_the_next_batch() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(2);
    let mut calls = Vec::new();
    for key in 0..5 {
        calls.push(load(&batcher, key));
        settle().await;
    }
    assert_eq!(sent.all(), [[0], [1]]);
    assert_eq!((batcher.stats().queued, batcher.stats().in_flight), (3, 2));
    let start = Instant::now();
    gate.open_for(2);
    while sent.all().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(sent.all().last().expect("a batch"), &[2, 3, 4]);
    gate.open_for(1);
    for call in join_all(calls).await {
        call.expect("no panic").expect("a number");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_batches_run_at_once_than_allowed() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(3).with_max_size(2);
    let calls: Vec<_> = (0..10).map(|key| load(&batcher, key)).collect();
    settle().await;
    assert_eq!(sent.sizes(), [2, 2, 2]);
    for passed in 1..=5 {
        gate.open_for(1);
        settle().await;
        assert_eq!(sent.all().len(), (3 + passed).min(5));
    }
    assert!(join_all(calls).await.into_iter().all(|call| call.expect("no panic").is_ok()));
    assert_eq!((batcher.stats().sent, batcher.stats().batches, batcher.stats().in_flight), (10, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_a_batch_waits_for_more_but_no_longer_than_that_after_its_first_call() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_millis(20));
    let mut calls = vec![load(&batcher, 0)];
    for key in 1..5 {
        tokio::time::sleep(Duration::from_millis(8)).await;
        calls.push(load(&batcher, key));
    }
    // 20 ms after the first call, not after the last: otherwise a stream of calls would delay it without end.
    assert_eq!(sent.all(), [[0, 1, 2]]);
    join_all(calls).await;
    assert_eq!(sent.all(), [vec![0, 1, 2], vec![3, 4]]);
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_a_batch_that_is_full_does_not_wait() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_secs(1)).with_max_size(3);
    let start = Instant::now();
    let first = load(&batcher, 0);
    settle().await;
    let others = [load(&batcher, 1), load(&batcher, 2)];
    first.await.expect("no panic").expect("a number");
    join_all(others).await;
    assert_eq!(start.elapsed(), Duration::from_millis(11));
    assert_eq!(sent.all(), [[0, 1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_without_end_does_not_overflow() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::MAX).with_max_size(2);
    assert_eq!(numbers(load_all(&batcher, [1, 2]).await), [10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_limited_by_weight_and_a_heavier_item_is_sent_alone() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).with_max_weight(10, |key| *key);
    let first = load(&batcher, 1);
    settle().await;
    let calls: Vec<_> = [4, 6, 3, 25, 2, 8].into_iter().map(|key| load(&batcher, key)).collect();
    gate.open_for(5);
    first.await.expect("no panic").expect("a number");
    join_all(calls).await;
    assert_eq!(sent.all()[1..], [vec![4, 6], vec![3], vec![25], vec![2, 8]]);
}

#[tokio::test(start_paused = true)]
async fn weights_saturate_instead_of_overflowing() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).with_max_weight(u64::MAX, |_| u64::MAX);
    let calls: Vec<_> = (0..4).map(|key| load(&batcher, key)).collect();
    gate.open_for(4);
    for call in join_all(calls).await {
        call.expect("no panic").expect("a number");
    }
    assert_eq!(sent.sizes(), [1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_a_batch_that_is_heavy_enough_does_not_wait() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_secs(1)).with_max_weight(10, |key| *key);
    let start = Instant::now();
    let first = load(&batcher, 4);
    settle().await;
    let other = load(&batcher, 6);
    first.await.expect("no panic").expect("a number");
    other.await.expect("no panic").expect("a number");
    assert_eq!(start.elapsed(), Duration::from_millis(11));
    assert_eq!(sent.all(), [[4, 6]]);
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_calls_left_by_a_full_batch_wait_for_their_own_delay() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_secs(1)).with_max_weight(10, |key| *key);
    let start = Instant::now();
    let calls = [load(&batcher, 4), load(&batcher, 5), load(&batcher, 3)];
    join_all(calls).await;
    assert_eq!(start.elapsed(), Duration::from_millis(1010));
    assert_eq!(sent.all(), [vec![4, 5], vec![3]]);
}
