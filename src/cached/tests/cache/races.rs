//! Races that need several threads.

use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use turbomcp_core::McpError;

use super::*;
use crate::cached::Cache;

/// A key that stops its first comparison, which happens when a call joins a load, until the test continues it.
#[derive(Debug, Clone, Default)]
struct StoppingKey(Option<Arc<Stop>>);

#[derive(Debug, Default)]
struct Stop {
    reached: AtomicBool,
    go_on: AtomicBool,
}

impl PartialEq for StoppingKey {
    fn eq(&self, other: &Self) -> bool {
        if let Some(stop) = self.0.as_ref().or(other.0.as_ref())
            && !stop.reached.swap(true, Ordering::SeqCst)
        {
            while !stop.go_on.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        true
    }
}

impl Eq for StoppingKey {}

impl Hash for StoppingKey {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_continues_for_a_caller_that_joins_while_the_last_one_leaves() {
    for _ in 0..20 {
        let (cache, gate) = (Cache::<StoppingKey, u32>::new(), Gate::closed());
        let ask = |key: StoppingKey| {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move {
                let load = || async move {
                    gate.pass().await;
                    Ok(1)
                };
                cache.get_or_load(&(), key, load).await
            })
        };
        let leaving = ask(StoppingKey::default());
        until(|| cache.stats().misses == 1).await;
        let stop = Arc::new(Stop::default());
        let joining = ask(StoppingKey(Some(Arc::clone(&stop))));
        until(|| stop.reached.load(Ordering::SeqCst)).await;
        leaving.abort();
        let _ = leaving.await;
        // Time for the load to see that it has no callers, and to check that again.
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
        stop.go_on.store(true, Ordering::SeqCst);
        until(|| cache.stats().misses == 2 || joining.is_finished()).await;
        gate.open();
        assert_eq!(joining.await.expect("no panic").expect("the load goes on"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_at_the_end_of_a_load_finds_the_stored_value() {
    let (cache, loads) = (Cache::<usize, usize>::new(), Arc::new(AtomicUsize::new(0)));
    for round in 1..=8_000 {
        let asking = (0..8).map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = || async move { Ok(loads.fetch_add(1, Ordering::SeqCst) + 1) };
                cache.get_or_load(&(), round, load).await.expect("a value")
            })
        });
        for value in join_all(asking.collect::<Vec<_>>()).await {
            assert_eq!(value.expect("no panic"), round, "a second load began for the same key");
        }
    }
    assert_eq!(loads.load(Ordering::SeqCst), 8_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_after_a_failed_load_does_not_get_its_error() {
    let cache = Cache::<(), usize>::new();
    let asking = tokio::spawn(async move {
        for number in 0..5_000 {
            let load = || async move { Err::<usize, _>(McpError::internal(number.to_string())) };
            let error = cache.get_or_load(&(), (), load).await.expect_err("it fails");
            assert_eq!(error.message, number.to_string());
        }
    });
    asking.await.expect("each failure is a new one");
}
