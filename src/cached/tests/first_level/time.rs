use tokio::time::advance;

use super::*;
use crate::testing::Call;
use crate::{CachedTool, Layer};

#[tokio::test(start_paused = true)]
async fn a_result_is_cached_for_its_ttl_and_no_longer() {
    let server = CachedTool::new().with_ttl(MINUTE).layer(numbered());
    assert_eq!(read(&server).await, "1");
    advance(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(read(&server).await, "1");
    advance(Duration::from_millis(1)).await;
    assert_eq!(read(&server).await, "2", "reading it did not prolong it");
}

#[tokio::test(start_paused = true)]
async fn the_ttl_counts_from_the_end_of_the_load() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        tokio::time::sleep(MINUTE).await;
        Ok(ToolResult::text(call.number.to_string()))
    });
    let server = CachedTool::new().with_ttl(MINUTE).layer(script);
    assert_eq!(read(&server).await, "1");
    advance(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(read(&server).await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_tool_can_have_its_own_ttl() {
    let tool = |call: Call| async move { Ok(ToolResult::text(call.number.to_string())) };
    let script = ScriptedServer::new("library")
        .with_read_only("read", tool)
        .with_read_only("list", tool)
        .with_read_only("count", tool);
    let layer = CachedTool::new().with_ttl(2 * MINUTE).with_ttl_for("list", 3 * MINUTE).with_ttl_for("count", MINUTE);
    let server = layer.layer(script);
    for (at, expected) in [(0, ["1", "1", "1"]), (1, ["1", "1", "2"]), (2, ["2", "1", "3"]), (3, ["2", "2", "4"])] {
        for (tool, expected) in ["read", "list", "count"].into_iter().zip(expected) {
            assert_eq!(answer(&server, tool, json!({}), &nobody()).await, expected, "{tool} after {at} minutes");
        }
        advance(MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_read_during_the_idle_time_is_dropped() {
    let server = CachedTool::new().with_idle_time(MINUTE).layer(numbered());
    assert_eq!(read(&server).await, "1");
    advance(MINUTE).await;
    assert_eq!(read(&server).await, "2");
}

#[tokio::test(start_paused = true)]
async fn each_read_extends_the_idle_time_but_not_the_ttl() {
    let server = CachedTool::new().with_ttl(3 * MINUTE).with_idle_time(MINUTE).layer(numbered());
    assert_eq!(read(&server).await, "1");
    for _ in 0..3 {
        advance(MINUTE - Duration::from_millis(1)).await;
        assert_eq!(read(&server).await, "1");
    }
    advance(Duration::from_millis(3)).await;
    assert_eq!(read(&server).await, "2");
}

#[tokio::test(start_paused = true)]
async fn reading_an_expired_value_does_not_extend_its_life() {
    let cache = crate::cached::Cache::<_, _>::new().with_idle_time(MINUTE);
    cache.insert("a", 1);
    advance(MINUTE).await;
    assert_eq!(cache.get(&"a"), None);
    assert_eq!(cache.get(&"a"), None);
    let loaded = cache.get_or_load(&(), "a", || async { Ok::<_, turbomcp_core::McpError>(2) }).await;
    assert_eq!(loaded.expect("a value"), 2);
}
