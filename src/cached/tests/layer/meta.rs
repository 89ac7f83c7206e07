use tokio::time::advance;
use turbomcp_core::McpError;

use super::*;
use crate::outcome::{ATTEMPTS, CACHE};
use crate::{CachedTool, Layer, RetryTool};

async fn result(server: &impl McpHandler) -> ToolResult {
    server.call_tool("read", json!({}), &nobody()).await.expect("an answer")
}

fn meta(result: &ToolResult, key: &str) -> Option<Value> {
    result.meta.as_ref()?.get(key).cloned()
}

/// A result in which every field is set.
fn full() -> ToolResult {
    ToolResult {
        structured_content: Some(json!({"title": "Moby Dick"})),
        meta: Some([("library.example/shelf".to_owned(), json!(7))].into_iter().collect()),
        ..ToolResult::text("Moby Dick")
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_states_its_cache_status_and_its_age() {
    let server = CachedTool::new().layer(numbered());
    assert_eq!(meta(&result(&server).await, CACHE), Some(json!({"status": "miss"})));
    for age in [0, 1_500, 3_000] {
        let hit = json!({"status": "hit", "level": 1, "ageMs": age});
        assert_eq!(meta(&result(&server).await, CACHE), Some(hit));
        advance(Duration::from_millis(1_500)).await;
    }
    assert_eq!(CACHE, "mcp-patterns/cache");
}

#[tokio::test(start_paused = true)]
async fn callers_who_shared_a_load_get_the_status_of_a_miss() {
    let gate = Gate::closed();
    let server = CachedTool::new().layer(numbered_behind(&gate));
    let open = async {
        settle().await;
        gate.open();
    };
    let (one, other, ()) = tokio::join!(result(&server), result(&server), open);
    assert_eq!(meta(&one, CACHE), Some(json!({"status": "miss"})));
    assert_eq!(one, other);
}

#[tokio::test]
async fn without_meta_the_answer_equals_that_of_the_bare_handler() {
    let script = ScriptedServer::new("library").with_read_only("read", |_| async { Ok(full()) });
    let server = CachedTool::new().without_meta().layer(script.clone());
    for _ in 0..3 {
        assert_eq!(result(&server).await, full());
    }
    assert_eq!(script.calls("read"), 1);
    assert_eq!(result(&CachedTool::new().without_meta().layer(numbered())).await, ToolResult::text("1"));
}

#[tokio::test]
async fn the_meta_of_the_tool_stays_in_its_result() {
    let script = ScriptedServer::new("library").with_read_only("read", |_| async { Ok(full()) });
    let server = CachedTool::new().layer(script);
    for status in ["miss", "hit"] {
        let mut result = result(&server).await;
        let cache = result.meta.as_mut().and_then(|meta| meta.remove(CACHE)).expect("the cache says so");
        assert_eq!(cache["status"], status);
        assert_eq!(result, full());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hit_does_not_repeat_the_attempts_of_the_load() {
    let script = ScriptedServer::new("library").with_read_only("read", |call| async move {
        if call.number == 1 { Err(McpError::unavailable("closed")) } else { Ok(full()) }
    });
    let server = (CachedTool::new(), RetryTool::new()).layer(script.clone());
    assert_eq!(meta(&result(&server).await, ATTEMPTS), Some(json!(2)));
    let hit = result(&server).await;
    assert_eq!(meta(&hit, ATTEMPTS), None);
    assert_eq!(meta(&hit, "library.example/shelf"), Some(json!(7)));
    assert_eq!(script.calls("read"), 2);
}

#[tokio::test]
async fn an_uncached_tool_answers_as_without_the_layer() {
    let script = ScriptedServer::new("library").with_plain("read", |_| async { Ok(full()) });
    let server = CachedTool::new().layer(script);
    assert_eq!(result(&server).await, full());
}
