//! Configuration errors are found when the stack is applied, before anything is served.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mcp_patterns::{CachedTool, ConfigError, Layer, RetryTool, TryLayer, layer};
use serde_json::json;
use turbomcp::McpServerExt;
use turbomcp_core::McpHandler;
use turbomcp_server::transport::channel;

use super::{Times, ask, echo};

fn bad_ttl() -> CachedTool {
    CachedTool::new().with_ttl(Duration::ZERO)
}

fn bad_name() -> RetryTool {
    RetryTool::new().only(["ehco"])
}

fn setting(mistake: &ConfigError) -> &'static str {
    match mistake {
        ConfigError::InvalidSetting { layer, .. } | ConfigError::UnknownTool { layer, .. } => layer,
        other => panic!("not expected: {other}"),
    }
}

/// Returns the panic message of `layer`.
fn panic_text(put_on: impl FnOnce()) -> String {
    let panic: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(put_on)).expect_err("it panics");
    *panic.downcast::<String>().expect("a text")
}

#[test]
fn an_invalid_layer_is_found_at_any_position() {
    let good = || layer(Times(2));
    let mistakes = [
        bad_ttl().try_layer(echo()).map(drop),
        (bad_ttl(),).try_layer(echo()).map(drop),
        (bad_ttl(), good(), RetryTool::new()).try_layer(echo()).map(drop),
        (good(), bad_ttl(), RetryTool::new()).try_layer(echo()).map(drop),
        (good(), RetryTool::new(), bad_ttl()).try_layer(echo()).map(drop),
        (good(), good(), good(), good(), good(), good(), good(), bad_ttl()).try_layer(echo()).map(drop),
        (bad_ttl(), good(), good(), good(), good(), good(), good(), good()).try_layer(echo()).map(drop),
        ((good(), bad_ttl()), good()).try_layer(echo()).map(drop),
        layer(Some(bad_ttl())).try_layer(echo()).map(drop),
        (good(), layer(Some(bad_ttl()))).try_layer(echo()).map(drop),
    ];
    let expected = bad_ttl().try_layer(echo()).expect_err("a ttl of zero");
    assert_eq!(setting(&expected), "CachedTool");
    for (at, mistake) in mistakes.into_iter().enumerate() {
        assert_eq!(mistake, Err(expected.clone()), "stack {at}");
    }
}

#[test]
fn the_inner_one_of_two_invalid_layers_is_named() {
    let mistake = (bad_ttl(), bad_name()).try_layer(echo()).expect_err("both are wrong");
    assert_eq!(setting(&mistake), "RetryTool");
    let mistake = (bad_name(), bad_ttl()).try_layer(echo()).expect_err("both are wrong");
    assert_eq!(setting(&mistake), "CachedTool");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_layer_of_none_is_no_error() {
    let server = layer(Some(bad_ttl()).filter(|_| false)).try_layer(echo()).expect("it is not there");
    assert_eq!(ask(&server, 4).await, 4);
}

#[test]
fn layer_panics_with_the_text_of_the_error() {
    let mistake = bad_name().try_layer(echo()).expect_err("no tool bears the name");
    assert_eq!(
        mistake.to_string(),
        "RetryTool names the tool `ehco`, which the server does not have: did you mean `echo`?"
    );
    let text = mistake.to_string();
    assert_eq!(panic_text(|| drop(bad_name().layer(echo()))), text);
    assert_eq!(panic_text(|| drop((layer(Times(2)), bad_name()).layer(echo()))), text);
    assert_eq!(panic_text(|| drop((bad_name(), layer(Times(2))).layer(echo()))), text);
    assert_eq!(panic_text(|| drop(layer(Some(bad_name())).layer(echo()))), text);
    assert_eq!(
        panic_text(|| drop(tower::ServiceBuilder::new().layer(bad_name()).layer(layer(Times(2))).service(echo()))),
        text
    );
}

/// Each way of serving, from the settings to the point where requests would come in.
#[tokio::test(start_paused = true)]
async fn every_way_of_serving_is_stopped_before_it_starts() {
    async fn serve(stack: impl TryLayer<mcp_patterns::testing::ScriptedServer, Service: McpHandler>) -> usize {
        let mut started = 0;
        let builds = || stack.try_layer(echo());
        if let Ok(server) = builds() {
            let _router: axum::Router = server.builder().into_axum_router();
            started += 1;
        }
        if let Ok(server) = builds() {
            let _service = server.builder().into_service();
            started += 1;
        }
        if let Ok(server) = builds() {
            let (client, running) = channel::run_in_process(&server).await.expect("it starts");
            started += 1;
            drop(client);
            running.await.expect("no panic").expect("no error");
        }
        started
    }
    assert_eq!(serve((CachedTool::new(), RetryTool::new())).await, 3);
    assert_eq!(serve((bad_ttl(), RetryTool::new())).await, 0);
    assert_eq!(serve((CachedTool::new(), bad_name())).await, 0);
}

/// An axum router never calls `on_initialize`: layers must not need it.
#[tokio::test(start_paused = true)]
async fn layers_act_in_an_axum_router_which_does_not_initialize_the_server() {
    let script = super::state::reader();
    let server = CachedTool::new().try_layer(script.clone()).expect("nothing is wrong");
    let mut session = super::state::Axum::new(server.builder().into_axum_router());

    let first = session.call("read", json!({ "id": 1 })).await;
    let second = session.call("read", json!({ "id": 1 })).await;
    assert_eq!(first["content"], second["content"]);
    assert_eq!(second["_meta"]["mcp-patterns/cache"]["status"], "hit");
    assert_eq!(script.calls("read"), 1);
}
