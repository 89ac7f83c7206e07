//! Answers: unchanged by the layers, kept, repeated.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Client, Tools};
use crate::rmcp_server::convert::error_from_rmcp;
use crate::rmcp_server::{Failed, McpError, RmcpServer};
use crate::{CachedTool, Layer, RetryTool, layer, outcome};

#[tokio::test]
async fn a_cached_answer_is_given_again() {
    let tools = Tools::new();
    let stack = CachedTool::new().layer(RmcpServer::new(tools.clone()));
    let client = Client::connect(&stack, "Ada").await;
    for _ in 0..3 {
        assert_eq!(client.text("weather", json!({"city": "Paris"})).await, "Paris: 1 by only");
    }
    assert_eq!(client.text("weather", json!({"city": "Rome"})).await, "Rome: 2 by only");
    let answer = client.call("weather", json!({"city": "Rome"})).await.unwrap();
    assert_eq!(answer.meta.unwrap()[outcome::CACHE]["status"], "hit");
    assert_eq!(client.text("write", json!({"city": "Rome"})).await, "Rome written: 3");
    assert_eq!(client.text("write", json!({"city": "Rome"})).await, "Rome written: 4");
}

#[tokio::test]
async fn a_temporary_failure_is_repeated() {
    let tools = Tools::new();
    let stack = RetryTool::new().with_base_delay(Duration::from_millis(1)).layer(RmcpServer::new(tools.clone()));
    let client = Client::connect(&stack, "Ada").await;
    assert_eq!(client.text("flaky", json!({})).await, "up at call 3");
    assert_eq!(tools.seen.calls(), 3);
}

#[tokio::test]
async fn progress_rises_through_retries() {
    let stack = RetryTool::new().with_base_delay(Duration::from_millis(1)).layer(RmcpServer::new(Tools::new()));
    let mut client = Client::connect(&stack, "Ada").await;
    assert_eq!(client.text("progress", json!({})).await, "done at call 2");
    let mut heard = Vec::new();
    while let Ok(progress) = client.progress.try_recv() {
        heard.push(progress);
    }
    assert_eq!(heard, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// Changes nothing, but acts on everything.
#[derive(Clone)]
struct Through;
impl crate::Middleware for Through {}

#[tokio::test]
async fn answers_and_errors_pass_the_layers_unchanged() {
    let bare = Client::connect(&Tools::new(), "Ada").await;
    let layered = (layer(Through), layer(Through)).layer(RmcpServer::new(Tools::new()));
    let layered = Client::connect(&layered, "Ada").await;
    for (tool, args) in [
        ("weather", json!({"city": "Paris"})),
        ("weather", json!({"town": "Paris"})),
        ("rich", json!({})),
        ("coded", json!({})),
        ("coded", Value::Null),
        ("missing", json!({})),
        ("flaky", json!({})),
    ] {
        let (bare, layered) = (bare.call(tool, args.clone()).await, layered.call(tool, args).await);
        assert_eq!(format!("{bare:?}"), format!("{layered:?}"), "{tool}");
    }
}

#[test]
fn a_failure_keeps_its_kind_as_the_error_of_a_resource() {
    let error = rmcp::ErrorData::from(Failed(McpError::unavailable("down")));
    assert_eq!(error_from_rmcp(error).kind, outcome::ErrorKind::Unavailable);
}
