use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;
use crate::batched::Call;
use crate::{BatchedTool, Layer};

#[tokio::test(start_paused = true)]
async fn size_wait_and_queue_are_measured_by_tool() {
    let recorder = DebuggingRecorder::new();
    let script = ScriptedServer::new("library").with_read_only("read", |_| async { Ok(ToolResult::text("alone")) });
    let layer = BatchedTool::new().with_max_in_flight(1).with_bulk("read", |calls: Vec<Call>| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        calls.iter().map(|_| Ok("read")).collect::<Vec<McpResult<_>>>()
    });
    let server = ::metrics::with_local_recorder(&recorder, || layer.layer(script));
    let ctx = nobody();
    let calls =
        |numbers: std::ops::Range<u64>| join_all(numbers.map(|n| server.call_tool("read", json!({"n": n}), &ctx)));
    let measured = || -> BTreeMap<String, DebugValue> {
        let snapshot = recorder.snapshotter().snapshot().into_vec();
        snapshot
            .into_iter()
            .map(|(key, _, _, value)| {
                let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
                assert_eq!(labels, [("tool", "read")]);
                (key.key().name().to_owned(), value)
            })
            .collect()
    };
    let later = async {
        settle().await;
        let later = async {
            settle().await;
            measured()
        };
        tokio::join!(calls(2..5), later).1
    };
    let (_, waiting) = tokio::join!(calls(0..2), later);
    assert_eq!(waiting["mcp_patterns_batch_queue"], DebugValue::Gauge(3.0.into()));
    let measured = measured();
    // Since it was last read.
    assert_eq!(measured["mcp_patterns_batch_queue"], DebugValue::Gauge((-3.0).into()));
    assert_eq!(measured["mcp_patterns_batch_size"], DebugValue::Histogram(vec![3.0.into()]));
    let wait = &measured["mcp_patterns_batch_wait_seconds"];
    assert_eq!(*wait, DebugValue::Histogram(vec![1.999.into(); 3]));
    assert_eq!(waiting["mcp_patterns_batch_size"], DebugValue::Histogram(vec![2.0.into()]));
}
