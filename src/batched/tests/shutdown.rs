use super::*;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn waiting_calls_are_sent_and_later_ones_are_rejected() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_size(2).with_max_in_flight(1).with_max_delay(Duration::from_secs(3600));
    let calls: Vec<_> = (0..5).map(|key| load(&batcher, key)).collect();
    settle().await;
    let start = Instant::now();
    let (late, ()) = tokio::join!(
        async {
            settle().await;
            batcher.load(&(), 9).await
        },
        batcher.shut_down(GRACE)
    );
    assert_eq!(kind(late), ErrorKind::Unavailable);
    assert!(start.elapsed() <= Duration::from_millis(30));
    let answers = join_all(calls).await.into_iter().map(|call| call.expect("no panic")).collect();
    assert_eq!(numbers(answers), [0, 10, 20, 30, 40]);
    assert_eq!(batcher.stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_past_the_grace_period_is_answered_too() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).with_max_size(2);
    let calls: Vec<_> = (0..5).map(|key| load(&batcher, key)).collect();
    settle().await;
    let start = Instant::now();
    batcher.shut_down(GRACE).await;
    assert_eq!(start.elapsed(), GRACE);
    for call in join_all(calls).await {
        assert_eq!(kind(call.expect("no panic")), ErrorKind::Unavailable);
    }
    assert_eq!(start.elapsed(), GRACE);
    assert_eq!(sent.all().len(), 1);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_for_room_is_answered_too() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1).wait_when_full().with_max_queue(1);
    let calls: Vec<_> = (0..9).map(|key| load(&batcher, key)).collect();
    settle().await;
    batcher.shut_down(GRACE).await;
    for call in join_all(calls).await {
        assert_eq!(kind(call.expect("no panic")), ErrorKind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_of_an_idle_batcher_takes_no_time() {
    let start = Instant::now();
    let batcher = tenfold(&Sent::default());
    batcher.shut_down(GRACE).await;
    batcher.shut_down(GRACE).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn a_runtime_that_shuts_down_leaves_no_caller_on_another_one_waiting() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let (going, staying) = (runtime(), runtime());
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1);
    let under_way = going.spawn({
        let batcher = batcher.clone();
        async move { batcher.load(&(), 1).await }
    });
    let in_time = |what: &dyn Fn() -> bool| {
        let start = std::time::Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(30), "it never happens");
            std::thread::yield_now();
        }
    };
    in_time(&|| sent.all().len() == 1);
    let waiting = staying.spawn({
        let batcher = batcher.clone();
        async move { batcher.load(&(), 2).await }
    });
    in_time(&|| batcher.stats().queued == 1);
    drop(under_way);
    going.shutdown_background();
    let waiting = staying.block_on(async { tokio::time::timeout(Duration::from_secs(30), waiting).await });
    assert_eq!(kind(waiting.expect("no endless wait").expect("no panic")), ErrorKind::Internal);
    // A batcher that lost its tasks continues to work.
    gate.open_for(1);
    let next = staying.block_on(async { tokio::time::timeout(Duration::from_secs(30), batcher.load(&(), 3)).await });
    assert_eq!(next.expect("no endless wait").expect("a number"), 30);
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_a_delayed_batch_at_once() {
    let batcher = tenfold(&Sent::default()).with_max_delay(Duration::from_secs(3600));
    let call = load(&batcher, 1);
    settle().await;
    let start = Instant::now();
    batcher.shut_down(GRACE).await;
    assert_eq!(start.elapsed(), Duration::from_millis(10));
    assert_eq!(call.await.expect("no panic").expect("a number"), 10);
}
