//! Which tools take a key, how they advertise it, and which settings are refused.

use metrics_util::debugging::DebuggingRecorder;

use super::*;
use crate::testing::{counted, counts};

fn tools() -> ScriptedServer {
    post()
        .with_plain("print", |_| ready(Ok(ToolResult::text("printed"))))
        .with_read_only("read", |call| ready(Ok(ToolResult::text(format!("read {}", call.number)))))
}

fn keyed(layer: &IdempotentTool) -> Vec<String> {
    let server = layer.layer(tools());
    let has_key = |tool: &turbomcp_types::Tool| {
        let argument = tool.input_schema.properties.as_ref().is_some_and(|all| all.get("idempotency_key").is_some());
        let told = tool.meta.as_ref().and_then(|meta| meta.get(IDEMPOTENCY));
        assert_eq!(told.is_some(), argument);
        argument
    };
    let listed = server.list_tools_for(&RequestContext::new());
    assert_eq!(listed, server.list_tools());
    listed.into_iter().filter(has_key).map(|tool| tool.name).collect()
}

#[test]
fn selected_tools_advertise_a_key() {
    let new = || IdempotentTool::new(MemoryBackend::new());
    assert_eq!(keyed(&new().only(["print"])), ["print"]);
    assert_eq!(keyed(&new().every_write()), ["send", "print"]);
    assert_eq!(keyed(&new().every_write().except(["send"])), ["print"]);
    assert_eq!(keyed(&new().when(|tool| tool.name == "read")), ["read"]);
}

#[tokio::test]
async fn an_unselected_tool_keeps_its_arguments() {
    let echo = ScriptedServer::new("post")
        .with_plain("send", |_| ready(Ok(ToolResult::text(""))))
        .with_plain("echo", |call| ready(Ok(ToolResult::text(call.args.to_string()))));
    let server = memory().layer(echo.clone());
    for _ in 0..2 {
        let args = json!({"idempotency_key": "k"});
        let answer = server.call_tool("echo", args.clone(), &RequestContext::new()).await;
        assert_eq!(text(&answer), args.to_string());
    }
    assert_eq!(echo.calls("echo"), 2);
}

fn mistake(layer: &IdempotentTool) -> String {
    layer.try_layer(tools()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_the_fix() {
    let nothing = IdempotentTool::new(MemoryBackend::new());
    assert!(mistake(&nothing).contains("name them with `only`, or use `when` or `every_write`"));
    assert!(
        mistake(&memory().with_lease(Duration::ZERO))
            .starts_with("IdempotentTool::with_lease: must be greater than zero")
    );
    let hasty = memory().with_backend_timeout(Duration::from_nanos(1));
    assert!(mistake(&hasty).starts_with("IdempotentTool::with_backend_timeout: must be at least 1 ms"));
    for (setting, backend) in [
        ("with_max_records", MemoryBackend::new().with_max_records(0)),
        ("with_max_bytes", MemoryBackend::new().with_max_bytes(0)),
    ] {
        assert_eq!(mistake(&layer(backend)), format!("MemoryBackend::{setting}: must be greater than zero"));
    }
    let no_ttl = Idempotency::new().with_ttl(Duration::ZERO);
    assert!(
        mistake(&memory().with_idempotency(no_ttl)).starts_with("Idempotency::with_ttl: must be greater than zero")
    );
    let unknown = memory().only(["sent"]).try_layer(tools()).map(|_| ()).unwrap_err();
    assert_eq!(
        unknown,
        ConfigError::UnknownTool { layer: "IdempotentTool", tool: "sent".into(), nearest: Some("send".into()) }
    );
    let required = Idempotency::new().required_for(["sned"]);
    assert!(mistake(&memory().with_idempotency(required)).contains("did you mean `send`?"));
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let debug = format!("{:?}", memory());
    for default in ["lease: 30s", "wait: 5s", "backend_timeout: 2s", "takes_over: false", "ttl: 86400s"] {
        assert!(debug.contains(default), "{default} in {debug}");
    }
    assert!(format!("{:?}", MemoryBackend::new()).contains("max_records: 100000"));
}

#[test]
fn the_outcome_of_each_call_with_a_key_is_counted() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let server = memory().layer(stumbling_post(McpError::unavailable("closed")));
            for _ in 0..4 {
                let _ = send(&server, "k").await;
            }
            let _ = server.call_tool("send", json!({"idempotency_key": "k"}), &RequestContext::new()).await;
            let _ = server.call_tool("send", json!({}), &RequestContext::new()).await;
        });
    });
    let expected = counts([
        ("idempotency tool=send outcome=recorded", 1),
        ("idempotency tool=send outcome=refused", 1),
        ("idempotency tool=send outcome=released", 1),
        ("idempotency tool=send outcome=replayed", 2),
    ]);
    assert_eq!(counted(&recorder), expected);
}
