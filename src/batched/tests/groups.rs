use super::*;

/// A batcher whose groups are the hundreds.
fn by_hundreds(gate: &Gate, sent: &Sent) -> Batcher<u64, u64> {
    tenfold_gated(gate, sent).with_groups(|key| (key / 100).to_be_bytes()).with_max_in_flight(1)
}

#[tokio::test(start_paused = true)]
async fn calls_of_different_groups_never_share_a_batch() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = by_hundreds(&gate, &sent);
    let calls: Vec<_> = [1, 101, 2, 201, 102, 3].into_iter().map(|key| load(&batcher, key)).collect();
    gate.open_for(10);
    for call in join_all(calls).await {
        call.expect("no panic").expect("a number");
    }
    assert_eq!(sent.all(), [vec![1, 2, 3], vec![101, 102], vec![201]]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_group_does_not_starve_another() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = by_hundreds(&gate, &sent).with_max_size(10);
    let busy: Vec<_> = (0..100).map(|key| load(&batcher, key)).collect();
    settle().await;
    let quiet = load(&batcher, 500);
    settle().await;
    // The running batch, the busy group's turn, then the quiet group's.
    gate.open_for(3);
    settle().await;
    assert_eq!(quiet.await.expect("no panic").expect("a number"), 5000);
    gate.open_for(10);
    assert!(join_all(busy).await.into_iter().all(|call| call.expect("no panic").is_ok()));
}

#[tokio::test(start_paused = true)]
async fn groups_take_turns() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = by_hundreds(&gate, &sent).with_max_size(2);
    let first = load(&batcher, 900);
    settle().await;
    let calls: Vec<_> = [1, 2, 3, 4, 5, 101, 102, 103, 201].into_iter().map(|key| load(&batcher, key)).collect();
    gate.open_for(20);
    first.await.expect("no panic").expect("a number");
    join_all(calls).await;
    assert_eq!(sent.all()[1..], [vec![1, 2], vec![101, 102], vec![201], vec![3, 4], vec![103], vec![5]]);
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_a_due_group_does_not_wait_for_an_earlier_group() {
    let sent = Sent::default();
    let batcher = tenfold(&sent)
        .with_groups(|key| (key / 100).to_be_bytes())
        .with_max_delay(Duration::from_millis(100))
        .with_max_size(2);
    let first = load(&batcher, 1);
    settle().await;
    let start = Instant::now();
    let full = [load(&batcher, 101), load(&batcher, 102)];
    join_all(full).await;
    assert_eq!(start.elapsed(), Duration::from_millis(10));
    first.await.expect("no panic").expect("a number");
    assert_eq!(start.elapsed(), Duration::from_millis(109));
    assert_eq!(sent.all(), [vec![101, 102], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn with_a_delay_each_group_has_its_own_delay() {
    let batcher = tenfold(&Sent::default())
        .with_groups(|key| (key / 100).to_be_bytes())
        .with_max_delay(Duration::from_millis(100));
    let start = Instant::now();
    let calls = [(0, 1), (20, 101), (40, 201)].map(|(comes, key)| {
        let batcher = batcher.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(comes)).await;
            batcher.load(&(), key).await.expect("a number");
            start.elapsed().as_millis()
        }
    });
    assert_eq!(join_all(calls).await, [110, 130, 150]);
}
