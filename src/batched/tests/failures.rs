use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::testing::Traced;

#[tokio::test(start_paused = true)]
async fn a_bad_item_fails_alone() {
    let batcher = Batcher::new(|keys: Vec<u64>| async move {
        keys.into_iter()
            .map(|key| if key == 2 { Err(McpError::invalid_params("two")) } else { Ok(key) })
            .collect::<Vec<_>>()
    });
    let answers = load_all(&batcher, [1, 2, 3]).await;
    assert_eq!(answers.iter().map(|answer| answer.as_ref().ok()).collect::<Vec<_>>(), [Some(&1), None, Some(&3)]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_batch_goes_to_all_its_callers_and_to_no_other() {
    let batcher = Batcher::new(|keys: Vec<u64>| async move {
        if keys.contains(&1) {
            Err(McpError::unavailable("down"))
        } else {
            Ok(keys.into_iter().map(Ok).collect::<Vec<_>>())
        }
    })
    .with_max_size(2);
    let answers = load_all(&batcher, [0, 1, 2, 3]).await;
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|error| error.kind)).collect();
    assert_eq!(kinds, [Err(ErrorKind::Unavailable), Err(ErrorKind::Unavailable), Ok(&2), Ok(&3)]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_fails_the_whole_batch_and_no_other() {
    for results in [0, 1, 2, 4, 100] {
        let batcher = Batcher::new(move |_: Vec<u64>| async move { vec![Ok(7); results] });
        for answer in load_all(&batcher, [1, 2, 3]).await {
            assert_eq!(kind(answer), ErrorKind::Internal, "{results} results");
        }
        assert_eq!(batcher.stats().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_is_logged_as_the_bulk_functions_bug() {
    let traced = Traced::start();
    let batcher = Batcher::new(|_: Vec<u64>| async { vec![Ok(7)] });
    load_all(&batcher, [1, 2, 3]).await;
    let log = traced.text();
    assert!(log.contains("ERROR") && log.contains("wrong number of results"), "{log}");
    assert!(log.contains("calls=3") && log.contains("results=1"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_batch_only_and_the_next_one_is_sent() {
    for early in [true, false] {
        let batcher = Batcher::new(move |keys: Vec<u64>| {
            assert!(!(early && keys.contains(&1)), "before the first await");
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert!(!keys.contains(&1), "after it");
                keys.into_iter().map(Ok).collect::<Vec<McpResult<u64>>>()
            }
        })
        .with_max_size(2)
        .with_max_in_flight(1);
        let answers = load_all(&batcher, [0, 1, 2, 3]).await;
        let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|error| error.kind)).collect();
        assert_eq!(kinds, [Err(ErrorKind::Internal), Err(ErrorKind::Internal), Ok(&2), Ok(&3)]);
        assert_eq!(batcher.load(&(), 5).await.expect("a number"), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_past_its_timeout_is_dropped() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let is_dropped = Arc::new(AtomicBool::new(false));
    let guard = Arc::clone(&is_dropped);
    let batcher: Batcher<u64, u64> = Batcher::new(move |_| {
        let guard = Dropped(Arc::clone(&guard));
        async move {
            let _guard = guard;
            std::future::pending::<Vec<McpResult<u64>>>().await
        }
    })
    .with_batch_timeout(Duration::from_secs(2));
    let start = Instant::now();
    for answer in load_all(&batcher, [1, 2]).await {
        assert_eq!(kind(answer), ErrorKind::Timeout);
    }
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert!(is_dropped.load(Ordering::SeqCst));
}
