use super::*;
use crate::batched::{Batcher, Call};
use crate::{BatchedTool, ConfigError, Scope, TryLayer};

fn script() -> ScriptedServer {
    ScriptedServer::new("library")
        .with_read_only("read", |_| async { Ok(ToolResult::text("read")) })
        .with_plain("write", |_| async { Ok(ToolResult::text("written")) })
}

async fn bulk(calls: Vec<Call>) -> Vec<McpResult<String>> {
    calls.into_iter().map(|call| Ok(call.tool)).collect()
}

fn mistake(layer: &BatchedTool) -> String {
    layer.try_layer(script()).expect_err("a mistake").to_string()
}

#[test]
fn a_layer_that_acts_on_no_tool_is_a_mistake() {
    assert!(mistake(&BatchedTool::new()).contains("`with_bulk`"));
}

#[test]
fn a_name_that_no_tool_bears_is_a_mistake() {
    for layer in [
        BatchedTool::new().with_bulk("reed", bulk),
        BatchedTool::new().only(["reed"]),
        BatchedTool::new().only(["read"]).except(["reed"]),
        BatchedTool::new().with_bulk("read", bulk).with_scope_for("reed", Scope::Public),
        BatchedTool::new().with_bulk("read", bulk).allow_repeated_effects(["reed"]),
    ] {
        assert!(mistake(&layer).ends_with("did you mean `read`?"), "{}", mistake(&layer));
    }
}

#[test]
fn sharing_calls_with_effects_requires_the_tools_name() {
    let layer = BatchedTool::new().only(["write"]);
    assert!(matches!(layer.try_layer(script()), Err(ConfigError::UnsafeTool { .. })), "{}", mistake(&layer));
    assert!(BatchedTool::new().allow_skipped_effects(["write"]).try_layer(script()).is_ok());
    assert!(BatchedTool::new().with_bulk("write", bulk).try_layer(script()).is_ok());
}

#[test]
fn settings_that_cannot_work_are_configuration_errors() {
    let on = || BatchedTool::new().with_bulk("read", bulk);
    for (layer, setting) in [
        (on().with_max_size(0), "with_max_size"),
        (on().with_max_in_flight(0), "with_max_in_flight"),
        (on().with_max_queue(0), "with_max_queue"),
        (on().with_max_weight(0, |_| 1), "with_max_weight"),
        (on().with_batch_timeout(Duration::ZERO), "with_batch_timeout"),
    ] {
        assert!(mistake(&layer).starts_with(&format!("BatchedTool::{setting}:")), "{}", mistake(&layer));
    }
    assert!(on().without_batch_timeout().try_layer(script()).is_ok());
}

#[test]
fn a_batcher_checks_the_same_settings() {
    let engine = || Batcher::<u8, u8, McpError>::new(|_| async { Vec::<McpResult<u8>>::new() });
    let layer = || BatchedTool::new().with_bulk("read", bulk);
    let short = Duration::from_nanos(1);
    assert_eq!(engine().check(), Ok(()));
    for (engine, layer) in [
        (engine().with_max_size(0), layer().with_max_size(0)),
        (engine().with_max_in_flight(0), layer().with_max_in_flight(0)),
        (engine().with_max_queue(0), layer().with_max_queue(0)),
        (engine().with_max_weight(0, |_| 1), layer().with_max_weight(0, |_| 1)),
        (engine().with_batch_timeout(short), layer().with_batch_timeout(short)),
    ] {
        assert_eq!(engine.check().map_err(|refused| refused.to_string()), Err(mistake(&layer)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_selectors_choose_tools_without_a_bulk_function() {
    for (layer, acts) in [
        (BatchedTool::new().only(["read"]), true),
        (BatchedTool::new().when(|tool| tool.name == "read"), true),
        (BatchedTool::new().with_bulk("write", bulk), false),
        (BatchedTool::new().with_bulk("write", bulk).only(["read"]).except(["read"]), false),
    ] {
        let server = layer.try_layer(script()).expect("settings that work");
        let answer = server.call_tool("read", json!({}), &nobody()).await;
        assert_eq!((text(&answer), size(&answer).is_some()), ("read", acts));
    }
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_those_of_the_manual() {
    let (sent, gate) = (Sent::default(), Gate::closed());
    let batcher = tenfold_gated(&gate, &sent);
    let mut calls = Vec::new();
    for key in 0..4 {
        calls.push(load(&batcher, key));
        settle().await;
    }
    calls.extend((4..4 + 1024 + 1).map(|key| load(&batcher, key)));
    let refused = calls.pop().expect("a call").await.expect("no panic");
    assert_eq!(kind(refused), ErrorKind::ServerOverloaded);
    assert_eq!(sent.sizes(), [1; 4]);
    gate.open_for(4);
    settle().await;
    assert_eq!(sent.sizes()[4..], [64; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_given_up_after_five_minutes() {
    let start = Instant::now();
    let answer = tenfold_gated(&Gate::closed(), &Sent::default()).load(&(), 1).await;
    assert_eq!(kind(answer), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), Duration::from_secs(300));
}
