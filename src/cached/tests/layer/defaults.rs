//! The behaviour of `CachedTool::new()`.

use tokio::time::advance;

use super::*;
use crate::{CachedTool, Layer};

const SECOND: Duration = Duration::from_secs(1);

/// A server whose tool `read` answers with the requested number of characters.
fn of_any_size() -> ScriptedServer {
    ScriptedServer::new("library").with_read_only("read", |call| async move {
        let chars = call.args["chars"].as_u64().and_then(|chars| usize::try_from(chars).ok()).expect("a size");
        Ok(ToolResult::text("x".repeat(chars)))
    })
}

#[tokio::test(start_paused = true)]
async fn a_result_is_cached_for_five_minutes() {
    let server = CachedTool::default().layer(numbered());
    assert_eq!(read(&server).await, "1");
    advance(5 * MINUTE - SECOND).await;
    assert_eq!(read(&server).await, "1", "and however long it is not read");
    advance(SECOND).await;
    assert_eq!(read(&server).await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_load_may_take_five_minutes() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(if call.number == 1 { 5 * MINUTE + SECOND } else { 5 * MINUTE - SECOND }).await;
        Ok(ToolResult::text(call.number.to_string()))
    });
    let server = CachedTool::new().layer(script);
    let result = server.call_tool("read", json!({}), &nobody()).await;
    assert_eq!(failed(&result).0, Some(ErrorKind::Timeout));
    assert_eq!(read(&server).await, "2");
}

#[tokio::test]
async fn ten_thousand_results_are_cached() {
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(of_any_size());
    for book in 0..10_500 {
        answer(&server, "read", json!({"book": book, "chars": 1}), &nobody()).await;
    }
    let stats = handle.stats();
    assert!((9_900..=10_000).contains(&stats.entries), "{stats:?}");
}

#[tokio::test]
async fn sixty_four_mebibytes_are_cached() {
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(of_any_size());
    for book in 0..80 {
        answer(&server, "read", json!({"book": book, "chars": 1_000_000}), &nobody()).await;
    }
    let stats = handle.stats();
    assert!((62_000_000..=64 << 20).contains(&stats.weight), "{stats:?}");
    assert!((62..=67).contains(&stats.entries), "{stats:?}");
}

#[tokio::test]
async fn a_result_above_one_mebibyte_is_not_cached() {
    let layer = CachedTool::new();
    let handle = layer.handle();
    let server = layer.layer(of_any_size());
    answer(&server, "read", json!({"chars": 1 << 20}), &nobody()).await;
    assert_eq!(handle.stats().entries, 0);
    answer(&server, "read", json!({"chars": (1 << 20) - 1_024}), &nobody()).await;
    assert_eq!(handle.stats().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn the_engine_keeps_ten_thousand_values_for_five_minutes() {
    let cache = crate::cached::Cache::<u32, u32>::default();
    for key in 0..20_000 {
        cache.insert(key, key);
    }
    assert_eq!(cache.stats().entries, 10_000);
    cache.clear();
    cache.insert(1, 1);
    advance(5 * MINUTE - SECOND).await;
    assert_eq!(cache.get(&1), Some(1));
    advance(SECOND).await;
    assert_eq!(cache.get(&1), None);
}
