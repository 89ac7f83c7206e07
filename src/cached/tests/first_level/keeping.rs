//! Which values are stored when loads race with each other, and failures with successes.

use tokio::time::{advance, sleep};
use turbomcp_core::McpError;

use super::*;
use crate::cached::{Cache, LoadError, MemoryLevel};
use crate::shared_work::Anybody;
use crate::{CachedTool, Layer};

const SECOND: Duration = Duration::from_secs(1);

/// Stops a thread while it stores the result of a load, at the point where the user's code runs.
#[derive(Debug, Default)]
struct Stop {
    is_reached: AtomicBool,
    may_go_on: AtomicBool,
}

impl Stop {
    fn pass(&self) {
        self.is_reached.store(true, Ordering::SeqCst);
        while !self.may_go_on.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// A cache that stops while it weighs the value 1, and a load that has reached this point.
async fn stopped_as_it_keeps_one(
    set: impl FnOnce(Cache<u8, u32>) -> Cache<u8, u32>,
) -> (Cache<u8, u32>, Arc<Stop>, tokio::task::JoinHandle<Result<u32, McpError>>) {
    let stop = Arc::<Stop>::default();
    let weighing = Arc::clone(&stop);
    let cache = set(Cache::new().with_max_bytes(1_000, move |_, value| {
        if *value == 1 {
            weighing.pass();
        }
        1
    }));
    cache.start();
    // Values that are stored before the subscription works are not trusted afterwards.
    until(|| cache.stats().second_level.is_none_or(|level| level.is_subscribed)).await;
    let loading = cache.clone();
    let load = tokio::spawn(async move { loading.get_or_load(&(), 7, || async { Ok(1) }).await });
    until(|| stop.is_reached.load(Ordering::SeqCst)).await;
    (cache, stop, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_superseded_while_it_is_stored_is_stored_nowhere() {
    let level = MemoryLevel::new();
    let replica =
        |cache: Cache<u8, u32>| cache.with_second_level("numbers", level.clone()).with_second_level_timeout(MINUTE);
    let (cache, stop, load) = stopped_as_it_keeps_one(replica).await;
    assert_eq!(cache.refresh(&(), 7, || async { Ok(2) }).await.ok(), Some(2));
    stop.may_go_on.store(true, Ordering::SeqCst);
    assert_eq!(load.await.expect("no panic").ok(), Some(1), "a caller from before may get it");
    assert_eq!(cache.get(&7), Some(2));
    // A later value has arrived, so this one would have, too.
    cache.get_or_load(&(), 8, || async { Ok(3) }).await.expect("a value");
    until(|| cache.stats().second_level.is_some_and(|level| level.puts >= 2)).await;
    let other = replica(Cache::new());
    assert_eq!(other.get_or_load(&(), 7, || async { Ok(4) }).await.ok(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_stored_during_an_insert_does_not_replace_the_inserted_value() {
    let (cache, stop, load) = stopped_as_it_keeps_one(|cache| cache).await;
    cache.insert(7, 2);
    stop.may_go_on.store(true, Ordering::SeqCst);
    assert_eq!(load.await.expect("no panic").ok(), Some(1));
    assert_eq!(cache.get(&7), Some(2));
}

/// A failure that stops its first clone, which the cache makes to store it.
#[derive(Debug)]
struct Gone(Arc<Stop>);

impl Clone for Gone {
    fn clone(&self) -> Self {
        self.0.pass();
        Self(Arc::clone(&self.0))
    }
}

impl LoadError for Gone {
    fn timed_out(_: Duration) -> Self {
        unreachable!("nothing takes long")
    }
    fn aborted() -> Self {
        unreachable!("nothing is lost")
    }
    fn cancelled() -> Self {
        unreachable!("nothing is cancelled")
    }
    fn allows_stale(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failure_superseded_while_it_is_stored_is_not_returned() {
    let cache = Cache::<u8, u32, Gone>::new().with_negative_ttl(MINUTE, |_| true);
    let (loading, stop) = (cache.clone(), Arc::<Stop>::default());
    let error = Gone(Arc::clone(&stop));
    let load = tokio::spawn(async move { loading.get_or_load(&(), 7, || async { Err(error) }).await });
    until(|| stop.is_reached.load(Ordering::SeqCst)).await;
    // A success that expires at once.
    let (keys, ttl) = (cache.entry_keys(&7), Duration::from_nanos(1));
    assert!(cache.loader.refresh(&Anybody(&()), 7, &keys, ttl, |_| Box::pin(async { Ok(2) })).await.is_ok());
    stop.may_go_on.store(true, Ordering::SeqCst);
    assert!(load.await.expect("no panic").is_err());
    assert!(matches!(cache.get_or_load(&(), 7, || async { Ok(3) }).await, Ok(3)));
}

/// A cache that stores failures for a minute, and values for ten seconds.
fn negative() -> Cache<String, u64> {
    let is_kept = |error: &McpError| error.kind == ErrorKind::ResourceNotFound;
    Cache::new().with_ttl(10 * SECOND).with_negative_ttl(MINUTE, is_kept)
}

fn dune() -> String {
    "dune".to_owned()
}

async fn ask(cache: &Cache<String, u64>, value: Option<u64>) -> Option<u64> {
    let load = || async move { value.ok_or_else(|| McpError::resource_not_found("dune")) };
    cache.get_or_load(&(), dune(), load).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_superseded_load_that_fails_neither_drops_nor_hides_a_value() {
    for inserts in [false, true] {
        let (cache, gate) = (negative(), Gate::closed());
        let (loading, opened) = (cache.clone(), gate.clone());
        let load = tokio::spawn(async move {
            let load = || async move {
                opened.pass().await;
                Err::<u64, _>(McpError::resource_not_found("dune"))
            };
            loading.get_or_load(&(), dune(), load).await
        });
        settle().await;
        if inserts {
            cache.insert(dune(), 2);
        } else {
            cache.refresh(&(), dune(), || async { Ok::<_, McpError>(2) }).await.expect("a value");
        }
        gate.open();
        assert!(load.await.expect("no panic").is_err());
        assert_eq!(cache.get(&dune()), Some(2));
        advance(11 * SECOND).await;
        assert_eq!(ask(&cache, Some(3)).await, Some(3), "no failure is returned again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_replaces_a_cached_failure() {
    for inserts in [false, true] {
        let cache = negative();
        assert_eq!(ask(&cache, None).await, None);
        assert_eq!(ask(&cache, Some(1)).await, None, "it is kept");
        if inserts {
            cache.insert(dune(), 2);
        } else {
            cache.refresh(&(), dune(), || async { Ok::<_, McpError>(2) }).await.expect("a value");
        }
        assert_eq!(ask(&cache, Some(3)).await, Some(2));
        advance(11 * SECOND).await;
        assert_eq!(ask(&cache, Some(4)).await, Some(4), "the success has expired, and the failure is from before it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_of_a_tool_replaces_its_cached_failure() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number == 1 { Err(McpError::resource_not_found("dune")) } else { Ok(ToolResult::text("found")) }
    });
    let layer = CachedTool::new().with_ttl(10 * SECOND).with_negative_ttl([ErrorKind::ResourceNotFound], MINUTE);
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    let first = server.call_tool("read", json!({}), &nobody()).await;
    assert_eq!(failed(&first).0, Some(ErrorKind::ResourceNotFound));
    assert_eq!(handle.refresh("read", json!({})).await, Ok(true));
    for calls in [2, 3, 4] {
        assert_eq!((read(&server).await, script.calls("read")), ("found".to_owned(), calls));
        advance(11 * SECOND).await;
    }
}

/// Two replicas with these settings that receive each other's invalidations.
async fn two(set: impl Fn(Cache<String, u64>) -> Cache<String, u64>) -> [Cache<String, u64>; 2] {
    let level = MemoryLevel::new();
    let pair = [0, 1].map(|_| {
        let cache = set(negative().with_second_level("books", level.clone()));
        cache.start();
        cache
    });
    settle().await;
    pair
}

#[tokio::test(start_paused = true)]
async fn a_success_found_in_the_second_level_replaces_a_cached_failure() {
    let [a, b] = two(|cache| cache.with_first_level_ttl(MINUTE)).await;
    assert_eq!(ask(&a, None).await, None);
    assert_eq!(ask(&b, Some(1)).await, Some(1));
    settle().await;
    let unavailable = || async { Err::<u64, _>(McpError::unavailable("closed")) };
    assert!(a.refresh(&(), dune(), unavailable).await.is_err());
    assert_eq!(ask(&a, Some(2)).await, Some(1), "the refresh has found it");
    sleep(11 * SECOND).await;
    assert_eq!(ask(&a, Some(3)).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_cached_failure_is_trusted_no_longer_than_a_value() {
    let [a, b] = two(|cache| cache.with_ttl(MINUTE).with_first_level_ttl(5 * SECOND)).await;
    assert_eq!(ask(&a, None).await, None);
    assert_eq!(ask(&b, Some(1)).await, Some(1));
    sleep(4 * SECOND).await;
    assert_eq!(ask(&a, Some(2)).await, None);
    sleep(2 * SECOND).await;
    assert_eq!(ask(&a, Some(3)).await, Some(1), "another replica has had a success");
}
