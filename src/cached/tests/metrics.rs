use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use turbomcp_core::McpError;
use turbomcp_types::{Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool};

use super::*;
use crate::{CachedTool, Layer};

/// How much was counted under each name and set of labels.
fn counted(recorder: &DebuggingRecorder) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        if let DebugValue::Counter(count @ 1..) = value {
            counted.insert(format!("{} {}", key.name(), labels.join(" ")), count);
        }
    }
    counted
}

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
    let of = |labels: &str| format!("mcp_patterns_cache_requests_total {labels}");
    let expected = [("tool=fail outcome=miss", 2), ("tool=read outcome=hit", 3), ("tool=read outcome=miss", 2)];
    assert_eq!(counted(&recorder), expected.map(|(labels, count)| (of(labels), count)).into_iter().collect());
}

/// Whatever clients ask for, there are four of them.
#[tokio::test]
async fn what_is_read_is_counted_by_kind_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let server =
        ::metrics::with_local_recorder(&recorder, || CachedTool::new().with_resources().with_prompts().layer(Reading));
    for uri in ["a", "a", "a", "b"] {
        server.read_resource(uri, &nobody()).await.expect("a resource");
    }
    for name in ["a", "a", "lost"] {
        let _ = server.get_prompt(name, None, &nobody()).await;
    }
    let of = |labels: &str| format!("mcp_patterns_cache_reads_total {labels}");
    let expected = [
        ("kind=prompt outcome=hit", 1),
        ("kind=prompt outcome=miss", 2),
        ("kind=resource outcome=hit", 2),
        ("kind=resource outcome=miss", 2),
    ];
    assert_eq!(counted(&recorder), expected.map(|(labels, count)| (of(labels), count)).into_iter().collect());
}

/// A server with resources and prompts, but for one.
#[derive(Clone)]
struct Reading;

impl McpHandler for Reading {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("library", "1.0.0")
    }

    fn list_tools(&self) -> Vec<Tool> {
        Vec::new()
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, _: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        Err(McpError::tool_not_found(name))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Ok(ResourceResult::text(uri, uri))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        if name == "lost" { Err(McpError::prompt_not_found(name)) } else { Ok(PromptResult::user(name)) }
    }
}
