use super::*;
use crate::cached::{Cache, Stats};
use crate::{CachedTool, Layer};

/// What the cache holds after `calls` different calls, each answered with `chars` characters.
async fn held_after(layer: CachedTool, calls: usize, chars: usize) -> Stats {
    let script = ScriptedServer::new("library")
        .with_read_only("read", move |_| async move { Ok(ToolResult::text("x".repeat(chars))) });
    let handle = layer.handle();
    let server = layer.layer(script.clone());
    for book in 0..calls {
        assert_eq!(answer(&server, "read", json!({"book": book}), &nobody()).await.len(), chars);
    }
    assert_eq!(script.calls("read"), calls);
    handle.stats()
}

#[tokio::test]
async fn a_cache_holds_no_more_entries_than_allowed() {
    let stats = held_after(CachedTool::new().with_max_entries(100), 2_000, 1).await;
    assert!((90..=100).contains(&stats.entries), "{stats:?}");
}

#[tokio::test]
async fn a_cache_holds_no_more_bytes_than_allowed() {
    let layer = CachedTool::new().with_max_bytes(200_000).with_max_result_bytes(10_000);
    let stats = held_after(layer, 500, 5_000).await;
    assert!((100_000..=200_000).contains(&stats.weight), "{stats:?}");
    assert!((20..=40).contains(&stats.entries), "{stats:?}");
}

#[tokio::test]
async fn entries_and_bytes_can_be_bounded_together() {
    let layer = CachedTool::new().with_max_entries(100).with_max_bytes(200_000).with_max_result_bytes(10_000);
    for layer in [layer.clone(), layer.with_max_entries(100)] {
        let small = held_after(layer.clone(), 1_000, 1).await;
        assert!((90..=100).contains(&small.entries) && small.weight <= 200_000, "{small:?}");
    }
    let layer = CachedTool::new().with_max_bytes(200_000).with_max_entries(100).with_max_result_bytes(10_000);
    let large = held_after(layer, 1_000, 5_000).await;
    assert!((20..=40).contains(&large.entries) && large.weight <= 200_000, "{large:?}");
}

#[test]
fn the_bound_on_entries_holds_however_large_the_bound_on_bytes_is() {
    let cache = Cache::<u32, u32>::new().with_max_entries(2).with_max_bytes(64 << 30, |_, _| 1);
    for key in 0..100 {
        cache.insert(key, key);
    }
    assert!(cache.stats().entries <= 2, "{:?}", cache.stats());
}

#[test]
fn the_entries_of_the_engine_are_bounded() {
    let cache = Cache::<u32, u32>::new().with_max_entries(50);
    for key in 0..1_000 {
        cache.insert(key, key);
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.weight), (50, 50));
}

#[test]
fn the_bytes_of_the_engine_are_bounded_by_the_weigher_of_its_user() {
    let cache = Cache::<u32, String>::new().with_max_bytes(1_000, |_, text| text.len()).with_max_item_bytes(100);
    for key in 0..500 {
        cache.insert(key, "x".repeat(50));
    }
    assert_eq!((cache.stats().entries, cache.stats().weight), (20, 1_000));
    cache.insert(1_000, "x".repeat(101));
    assert_eq!(cache.get(&1_000), None);
}

#[tokio::test]
async fn a_result_above_the_size_limit_is_returned_and_not_cached() {
    let stats = held_after(CachedTool::new().with_max_result_bytes(2_000), 3, 3_000).await;
    assert_eq!((stats.entries, stats.weight), (0, 0));
    let stats = held_after(CachedTool::new().with_max_result_bytes(5_000), 3, 3_000).await;
    assert_eq!(stats.entries, 3);
}

#[tokio::test]
async fn the_arguments_count_towards_the_size_of_a_result() {
    let script = numbered();
    let layer = CachedTool::new().with_max_result_bytes(2_000);
    let handle = layer.handle();
    let server = layer.layer(script);
    answer(&server, "read", json!({"book": "x".repeat(3_000)}), &nobody()).await;
    assert_eq!(handle.stats().entries, 0);
}
