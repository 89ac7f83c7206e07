use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use turbomcp_core::McpError;

use super::*;
use crate::cached::{Cache, LoadError};

/// An error type of the user.
#[derive(Debug, Clone, PartialEq)]
enum Trouble {
    Empty,
    TimedOut(Duration),
    Lost,
    Cancelled,
}

impl LoadError for Trouble {
    fn timed_out(after: Duration) -> Self {
        Self::TimedOut(after)
    }

    fn aborted() -> Self {
        Self::Lost
    }

    fn cancelled() -> Self {
        Self::Cancelled
    }
}

type Shelf = Cache<&'static str, usize, Trouble>;

async fn load(value: usize) -> Result<usize, Trouble> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(value)
}

#[tokio::test(start_paused = true)]
async fn values_are_stored_returned_and_invalidated() {
    let shelf = Shelf::new();
    assert_eq!(shelf.get(&"a"), None);
    shelf.insert("a", 1);
    assert_eq!(shelf.get(&"a"), Some(1));
    shelf.insert("a", 2);
    assert_eq!(shelf.get(&"a"), Some(2));
    assert_eq!(shelf.get_or_load(&(), "a", || load(3)).await, Ok(2));
    assert_eq!(shelf.get_or_load(&(), "b", || load(4)).await, Ok(4));
    assert_eq!(shelf.clone().get(&"b"), Some(4), "clones share the values");
    shelf.invalidate(&"a");
    assert_eq!((shelf.get(&"a"), shelf.get(&"b")), (None, Some(4)));
    shelf.insert("a", 5);
    shelf.clear();
    assert_eq!((shelf.get(&"a"), shelf.get(&"b")), (None, None));
    assert_eq!(shelf.stats().entries, 0);
    shelf.insert("a", 6);
    assert_eq!(shelf.get(&"a"), Some(6), "a later value is stored");
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_concurrent_calls_for_a_key_run_one_load() {
    let (shelf, loads) = (Shelf::new(), AtomicUsize::new(0));
    let asking = (0..20_000).map(|_| {
        shelf.get_or_load(&(), "a", || {
            loads.fetch_add(1, Ordering::SeqCst);
            load(1)
        })
    });
    assert!(join_all(asking).await.into_iter().all(|value| value == Ok(1)));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_users_type_is_returned_unchanged_and_not_cached() {
    let shelf = Shelf::new();
    let asking = (0..100).map(|_| shelf.get_or_load(&(), "a", || async { Err(Trouble::Empty) }));
    assert!(join_all(asking).await.into_iter().all(|value| value == Err(Trouble::Empty)));
    assert_eq!(shelf.stats().failed_loads, 1);
    assert_eq!(shelf.get_or_load(&(), "a", || load(1)).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_times_out_panics_or_is_cancelled_returns_an_error_of_the_users_type() {
    let shelf = Shelf::new().with_load_timeout(Duration::from_secs(1));
    let hanging = || shelf.get_or_load(&(), "a", std::future::pending);
    let expected = Err(Trouble::TimedOut(Duration::from_secs(1)));
    assert_eq!(tokio::join!(hanging(), hanging()), (expected.clone(), expected));
    let panicking = || shelf.get_or_load(&(), "a", || async { panic!("the shelf breaks") });
    assert_eq!(tokio::join!(panicking(), panicking()), (Err(Trouble::Lost), Err(Trouble::Lost)));
    let token = Token::default();
    let ctx = nobody().with_cancellation_token(Arc::new(token.clone()));
    token.cancel();
    assert_eq!(shelf.get_or_load(&ctx, "a", std::future::pending).await, Err(Trouble::Cancelled));
    settle().await;
    assert_eq!(shelf.get_or_load(&(), "a", || load(1)).await, Ok(1));
}

/// The part of a load that runs before its future exists is the user's code, too.
#[tokio::test]
async fn a_panic_before_the_load_begins_leaves_the_cache_usable() {
    let (ends, ended) = std::sync::mpsc::channel();
    // On its own thread, so that a deadlock of the cache fails this test and does not block the others.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let shelf = Shelf::new();
            let asking = shelf.clone();
            let breaks = |fails: bool| -> std::future::Ready<Result<usize, Trouble>> {
                assert!(!fails, "the shelf breaks");
                std::future::ready(Ok(1))
            };
            let panicked = tokio::spawn(async move { asking.get_or_load(&(), "a", || breaks(true)).await }).await;
            let again = shelf.get_or_load(&(), "a", || breaks(false)).await;
            let _ = ends.send((matches!(panicked, Ok(Ok(_))), again));
        });
    });
    let ended = ended.recv_timeout(Duration::from_secs(20)).expect("the cache locked itself up");
    assert_eq!(ended, (false, Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn an_inserted_value_is_not_overwritten_by_a_load_that_began_earlier() {
    let shelf = Shelf::new();
    let put = async {
        settle().await;
        shelf.insert("a", 2);
        assert_eq!(shelf.get(&"a"), Some(2));
    };
    let (loaded, ()) = tokio::join!(shelf.get_or_load(&(), "a", || load(1)), put);
    assert!(loaded.is_ok());
    assert_eq!(shelf.get(&"a"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_load_of_the_engine_is_not_undone() {
    let ways: [fn(&Shelf); 2] = [|shelf| shelf.invalidate(&"a"), Shelf::clear];
    for invalidate in ways {
        let shelf = Shelf::new();
        let invalidated = async {
            settle().await;
            invalidate(&shelf);
            settle().await;
            assert_eq!(shelf.get_or_load(&(), "a", || load(2)).await, Ok(2));
        };
        let (before, ()) = tokio::join!(shelf.get_or_load(&(), "a", || load(1)), invalidated);
        assert_eq!(before, Ok(1));
        assert_eq!(shelf.get(&"a"), Some(2));
    }
}

/// Answers as the cached tools of many servers do: from the cache, or with a new value.
#[derive(Clone)]
struct Data {
    cache: Cache<String, String>,
    fetches: Arc<AtomicUsize>,
}

impl Data {
    fn new() -> Self {
        Self { cache: Cache::new().with_max_entries(1_000), fetches: Arc::default() }
    }

    async fn fetch_data(&self, key: &str, ctx: &RequestContext) -> McpResult<String> {
        if let Some(cached) = self.cache.get(&key.to_owned()) {
            return Ok(format!("[CACHED] {cached}"));
        }
        let (fetches, wanted) = (Arc::clone(&self.fetches), key.to_owned());
        let load = || async move {
            fetches.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, McpError>(format!("Data for {wanted}"))
        };
        Ok(format!("[FRESH] {}", self.cache.get_or_load(ctx, key.to_owned(), load).await?))
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_body_loads_once_and_then_answers_from_the_cache() {
    let (data, ctx) = (Data::new(), nobody());
    assert_eq!(data.fetch_data("a", &ctx).await.expect("data"), "[FRESH] Data for a");
    assert_eq!(data.fetch_data("a", &ctx).await.expect("data"), "[CACHED] Data for a");
    assert_eq!(data.fetch_data("b", &ctx).await.expect("data"), "[FRESH] Data for b");
    data.cache.invalidate(&"a".to_owned());
    assert_eq!(data.fetch_data("a", &ctx).await.expect("data"), "[FRESH] Data for a");
    let together = join_all((0..100).map(|_| data.fetch_data("c", &ctx))).await;
    assert!(together.iter().all(|data| data.as_ref().is_ok_and(|data| data == "[FRESH] Data for c")));
    assert_eq!(data.fetches.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_server_can_warm_its_cache_before_the_first_call() {
    let (data, ctx) = (Data::new(), nobody());
    for key in ["homepage", "pricing", "docs", "api"] {
        data.cache.insert(key.to_owned(), format!("Content for {key}"));
    }
    assert_eq!(data.fetch_data("docs", &ctx).await.expect("data"), "[CACHED] Content for docs");
    assert_eq!(data.fetches.load(Ordering::SeqCst), 0);
}
