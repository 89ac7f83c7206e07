use super::*;

/// Fails every batch that contains one of the `poison`.
fn poisoned(sent: &Sent, poison: &'static [u64], error: fn() -> McpError) -> Batcher<u64, u64> {
    let sent = sent.clone();
    Batcher::new(move |keys: Vec<u64>| {
        sent.note(&keys);
        async move {
            if keys.iter().any(|key| poison.contains(key)) {
                Err(error())
            } else {
                Ok(keys.into_iter().map(Ok).collect::<Vec<_>>())
            }
        }
    })
}

fn refused() -> McpError {
    McpError::invalid_params("a bad item")
}

#[tokio::test(start_paused = true)]
async fn the_bad_item_is_found_and_the_others_succeed() {
    let sent = Sent::default();
    let batcher = poisoned(&sent, &[5], refused).split_failed_batches();
    let answers = load_all(&batcher, 0..8).await;
    for (key, answer) in (0..).zip(answers) {
        match key {
            5 => assert_eq!(kind(answer), ErrorKind::InvalidParams),
            _ => assert_eq!(answer.expect("a number"), key),
        }
    }
    assert_eq!(sent.sizes(), [8, 4, 4, 2, 1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn every_bad_item_is_found() {
    let sent = Sent::default();
    let batcher = poisoned(&sent, &[0, 3, 6], refused).split_failed_batches();
    for (key, answer) in (0..).zip(load_all(&batcher, 0..7).await) {
        assert_eq!(answer.is_err(), [0, 3, 6].contains(&key), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_panics_the_bulk_function_is_found_too() {
    let batcher = Batcher::new(|keys: Vec<u64>| async move {
        assert!(!keys.contains(&2), "poison");
        keys.into_iter().map(Ok).collect::<Vec<McpResult<u64>>>()
    })
    .split_failed_batches();
    let answers = load_all(&batcher, 0..5).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied() {
    let sent = Sent::default();
    let batcher = poisoned(&sent, &[5], || McpError::unavailable("down")).split_failed_batches();
    for answer in load_all(&batcher, 0..8).await {
        assert_eq!(kind(answer), ErrorKind::Unavailable);
    }
    assert_eq!(sent.sizes(), [8]);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_sent_twice_by_default() {
    let sent = Sent::default();
    for answer in load_all(&poisoned(&sent, &[5], refused), 0..8).await {
        assert_eq!(kind(answer), ErrorKind::InvalidParams);
    }
    assert_eq!(sent.sizes(), [8]);
}

#[tokio::test(start_paused = true)]
async fn results_from_before_the_timeout_are_returned() {
    let batcher = Batcher::new(|keys: Vec<u64>| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if keys.contains(&3) { Err(refused()) } else { Ok(keys.into_iter().map(Ok).collect::<Vec<_>>()) }
    })
    .split_failed_batches()
    .with_batch_timeout(Duration::from_millis(25));
    let answers = load_all(&batcher, 0..4).await;
    let told: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|error| error.kind)).collect();
    assert_eq!(told, [Ok(&0), Ok(&1), Err(ErrorKind::Timeout), Err(ErrorKind::Timeout)]);
}

/// A function that returns a wrong number is not called again.
#[tokio::test(start_paused = true)]
async fn a_batch_with_a_wrong_number_of_results_is_not_split() {
    let sent = Sent::default();
    let seen = sent.clone();
    let batcher: Batcher<u64, u64> = Batcher::new(move |keys: Vec<u64>| {
        seen.note(&keys);
        async { vec![Ok(7)] }
    })
    .split_failed_batches();
    for answer in load_all(&batcher, 0..4).await {
        assert_eq!(kind(answer), ErrorKind::Internal);
    }
    assert_eq!(sent.sizes(), [4]);
}
