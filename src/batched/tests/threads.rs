use super::*;

/// Callers on several threads, who leave at any moment. The paused clock of one thread cannot test this.
#[test]
fn on_many_threads_each_caller_gets_its_own_answer_and_none_waits_forever() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let batcher = Batcher::new(|keys: Vec<u64>| async move {
            for _ in 0..keys.len() % 4 {
                tokio::task::yield_now().await;
            }
            keys.into_iter().map(|key| Ok(key * 10)).collect::<Vec<McpResult<u64>>>()
        })
        .with_max_size(5)
        .with_max_in_flight(3)
        .with_groups(|key| (key % 2).to_be_bytes())
        .with_max_queue(64)
        .wait_when_full();
        let callers: Vec<_> = (0..32_u64)
            .map(|caller| {
                let batcher = batcher.clone();
                tokio::spawn(async move {
                    let mut rng = fastrand::Rng::with_seed(caller);
                    for call in 0..200 {
                        let key = caller * 1000 + call;
                        let answer = batcher.load(&(), key);
                        if rng.u8(0..4) == 0 {
                            // It leaves after that many polls of the answer.
                            let mut looks = rng.u8(0..4);
                            let leaves = std::future::poll_fn(|cx| {
                                if looks == 0 {
                                    return std::task::Poll::Ready(());
                                }
                                looks -= 1;
                                cx.waker().wake_by_ref();
                                std::task::Poll::Pending
                            });
                            tokio::select! { () = leaves => {}, answer = answer => assert_eq!(answer.expect("a number"), key * 10) }
                        } else {
                            assert_eq!(answer.await.expect("a number"), key * 10);
                        }
                    }
                })
            })
            .collect();
        let all = tokio::time::timeout(Duration::from_secs(60), join_all(callers)).await;
        all.expect("no endless wait").into_iter().for_each(|caller| caller.expect("no panic"));
        batcher.shut_down(Duration::from_secs(60)).await;
        assert_eq!((batcher.stats().queued, batcher.stats().in_flight), (0, 0));
    });
}

/// Such a runtime runs the tasks that a task spawns before other ready tasks.
#[test]
fn on_many_threads_a_caller_about_to_call_joins_the_batch() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let sent = Sent::default();
    let batcher = tenfold(&sent);
    let callers = runtime.spawn(async move {
        let calls: Vec<_> = (0..20).map(|key| load(&batcher, key)).collect();
        join_all(calls).await
    });
    runtime.block_on(callers).expect("no panic");
    assert_eq!(sent.sizes(), [20]);
}
