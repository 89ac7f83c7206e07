//! Limits that several processes share without a backend.

use futures_util::future::join_all;

use super::*;

#[tokio::test(start_paused = true)]
async fn all_processes_together_let_the_rate_through() {
    // A burst that each process has a part of, and one that is less than the processes.
    for (burst, at_once) in [(12, 12), (2, 4)] {
        let limits =
            || LimitedTool::new().with_rate(Per::Tool, Rate::per_minute(60).with_burst(burst)).with_replicas(4);
        let servers: Vec<_> = (0..4).map(|_| limits().layer(server())).collect();
        let flood = async || {
            let mut passed = 0;
            for server in &servers {
                while search(server, &user("ada")).await.is_ok() {
                    passed += 1;
                }
            }
            passed
        };
        assert_eq!(flood().await, at_once);
        let mut passed = 0;
        for _ in 0..600 {
            tokio::time::advance(ms(100)).await;
            passed += flood().await;
        }
        assert_eq!(passed, 60, "sixty in a minute, with a burst of {burst}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_process_has_its_part_of_the_places_and_of_the_queue_rounded_so_that_all_together_have_no_more() {
    let concurrency = Concurrency::new(7).with_queue(4);
    let limits = LimitedTool::new().with_concurrency(Per::Tool, concurrency).with_replicas(3);
    let handle = limits.handle();
    assert_eq!(handle.concurrency("search"), None);
    let server = limits.layer(server());
    let ada = user("ada");
    let calls = (0..5).map(|_| call(&server, "search", json!({ "ms": 100 }), &ada));
    let (ends, in_use) = tokio::join!(join_all(calls), async {
        tokio::time::sleep(ms(50)).await;
        handle.concurrency("search").expect("it is limited")
    });
    assert_eq!((in_use.limit, in_use.running, in_use.waiting), (2, 2, 2));
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 4, "{ends:?}");
}
