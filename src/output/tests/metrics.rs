use metrics_util::debugging::DebuggingRecorder;

use super::*;
use crate::testing::{counted, counts};

#[test]
fn answers_above_the_bounds_are_counted_by_what_became_of_them() {
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    ::metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let texts = || answering(Ok(ToolResult::text(lines(500))));
            let (cut, kept, large) =
                (bound().layer(texts()), keeping().layer(texts()), bound().layer(answering(Ok(rows(500)))));
            for tool in ["read", "write"] {
                call(&cut, tool, &user("ada")).await;
                call(&kept, tool, &user("ada")).await;
            }
            for tool in ["read_rows", "write_rows"] {
                call(&large, tool, &user("ada")).await;
            }
            cut.call_tool("made up", json!({}), &user("ada")).await.expect_err("unknown");
        });
    });
    let expected = counts([
        ("outputs tool=read outcome=cut", 1),
        ("outputs tool=read outcome=spilled", 1),
        ("outputs tool=read_rows outcome=too_large", 1),
        ("outputs tool=write outcome=spilled", 1),
        ("outputs tool=write outcome=whole", 1),
        ("outputs tool=write_rows outcome=whole", 1),
    ]);
    assert_eq!(counted(&recorder), expected);
}
