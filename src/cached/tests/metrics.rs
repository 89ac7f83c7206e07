use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use turbomcp_core::McpError;

use super::*;
use crate::{CachedTool, Layer};

#[tokio::test]
async fn requests_are_counted_by_tool_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let script = numbered()
        .with_read_only("fail", |_| async { Err(McpError::internal("burnt")) })
        .with_plain("lend", |_| async { Ok(ToolResult::text("lent")) });
    let server = ::metrics::with_local_recorder(&recorder, || CachedTool::new().layer(script));
    for name in ["ada", "ada", "ada", "ada", "bob"] {
        answer(&server, "read", json!({"name": name}), &user(name)).await;
    }
    for tool in ["fail", "fail", "lend"] {
        let _ = server.call_tool(tool, json!({}), &nobody()).await;
    }
    let mut counted = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        assert_eq!(key.name(), "mcp_patterns_cache_requests_total");
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        assert!(matches!(value, DebugValue::Counter(_)));
        if let DebugValue::Counter(count @ 1..) = value {
            counted.insert(labels.join(" "), count);
        }
    }
    let expected = [("tool=fail outcome=miss", 2), ("tool=read outcome=hit", 3), ("tool=read outcome=miss", 2)];
    assert_eq!(counted, expected.map(|(labels, count)| (labels.to_owned(), count)).into_iter().collect());
}
