use super::*;

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_contain_a_caller_who_left_before_it_was_sent() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1);
    let first = load(&batcher, 0);
    settle().await;
    let calls: Vec<_> = (1..5).map(|key| load(&batcher, key)).collect();
    settle().await;
    calls[1].abort();
    settle().await;
    gate.open_for(2);
    first.await.expect("no panic").expect("a number");
    settle().await;
    assert_eq!(sent.all(), [vec![0], vec![1, 3, 4]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_continues_when_one_of_its_callers_leaves() {
    let sent = Sent::default();
    let batcher = tenfold(&sent);
    let calls: Vec<_> = (0..3).map(|key| load(&batcher, key)).collect();
    settle().await;
    calls[0].abort();
    let answers: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(numbers(answers), [10, 20]);
    assert_eq!(sent.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_callers_have_all_left_is_cancelled_and_frees_its_place() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent).with_max_in_flight(1);
    let calls: Vec<_> = (0..3).map(|key| load(&batcher, key)).collect();
    settle().await;
    let next = load(&batcher, 9);
    settle().await;
    for call in &calls {
        assert_eq!(sent.all().len(), 1);
        call.abort();
        settle().await;
    }
    assert_eq!(sent.all(), [vec![0, 1, 2], vec![9]]);
    gate.open_for(1);
    assert_eq!(next.await.expect("no panic").expect("a number"), 90);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_returns_within_50_ms_and_the_batch_continues_for_the_others() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent);
    let token = Token::default();
    let ctx = token.ctx();
    let leaving = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.load(&ctx, 1).await })
    };
    let other = load(&batcher, 2);
    tokio::time::sleep(Duration::from_millis(333)).await;
    let cancelled = Instant::now();
    token.cancel();
    assert_eq!(kind(leaving.await.expect("no panic")), ErrorKind::Cancelled);
    assert!(cancelled.elapsed() <= Duration::from_millis(50));
    gate.open_for(1);
    assert_eq!(other.await.expect("no panic").expect("a number"), 20);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_already_cancelled_is_not_sent() {
    let sent = Sent::default();
    let token = Token::default();
    token.cancel();
    assert_eq!(kind(tenfold(&sent).load(&token.ctx(), 1).await), ErrorKind::Cancelled);
    assert_eq!(sent.all().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_more_calls_ends_when_no_caller_waits() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_secs(3600));
    let call = load(&batcher, 1);
    settle().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 2);
    call.abort();
    settle().await;
    assert_eq!((tasks(), batcher.stats().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_has_no_task() {
    let sent = Sent::default();
    let batcher = tenfold(&sent);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    load_all(&batcher, 0..500).await;
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_bulk_function_is_dropped_with_the_last_clone() {
    let witness = Arc::new(());
    let weak = Arc::downgrade(&witness);
    let batcher = Batcher::new(move |keys: Vec<u64>| {
        let _witness = &witness;
        async move { keys.into_iter().map(Ok).collect::<Vec<McpResult<u64>>>() }
    });
    load_all(&batcher, 0..100).await;
    let clone = batcher.clone();
    drop(batcher);
    settle().await;
    assert_eq!(weak.strong_count(), 1);
    drop(clone);
    assert_eq!(weak.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_left_no_longer_adds_weight() {
    let sent = Sent::default();
    let batcher = tenfold(&sent).with_max_delay(Duration::from_secs(1)).with_max_weight(10, |key| *key);
    let start = Instant::now();
    let [leaves, stays] = [6, 3].map(|key| load(&batcher, key));
    settle().await;
    leaves.abort();
    settle().await;
    let other = load(&batcher, 4);
    stays.await.expect("no panic").expect("a number");
    other.await.expect("no panic").expect("a number");
    assert_eq!(start.elapsed(), Duration::from_millis(1010));
    assert_eq!(sent.all(), [[3, 4]]);
}
