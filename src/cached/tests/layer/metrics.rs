use metrics_util::debugging::DebuggingRecorder;
use turbomcp_core::McpError;
use turbomcp_types::{Prompt, PromptResult, Resource, ResourceResult, ServerInfo, Tool};

use super::*;
use crate::cached::tests::second_level::fleet::*;
use crate::cached::{MemoryLevel, Reads};
use crate::testing::{counted, counts};
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
    let expected = counts([
        ("cache_requests tool=fail outcome=miss", 2),
        ("cache_requests tool=read outcome=hit", 3),
        ("cache_requests tool=read outcome=miss", 2),
    ]);
    assert_eq!(counted(&recorder), expected);
}

/// There are four counters, whatever clients ask for.
#[tokio::test]
async fn reads_of_resources_and_prompts_are_counted_by_kind_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let server = ::metrics::with_local_recorder(&recorder, || {
        CachedTool::new().with_resources(Reads::new()).with_prompts(Reads::new()).layer(Reading)
    });
    for uri in ["a", "a", "a", "b"] {
        server.read_resource(uri, &nobody()).await.expect("a resource");
    }
    for name in ["a", "a", "lost"] {
        let _ = server.get_prompt(name, None, &nobody()).await;
    }
    let expected = counts([
        ("cache_reads kind=prompt outcome=hit", 1),
        ("cache_reads kind=prompt outcome=miss", 2),
        ("cache_reads kind=resource outcome=hit", 2),
        ("cache_reads kind=resource outcome=miss", 2),
    ]);
    assert_eq!(counted(&recorder), expected);
}

/// A server with resources and prompts, except one.
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

#[tokio::test(start_paused = true)]
async fn steps_and_failures_of_a_second_level_are_counted() {
    let recorder = DebuggingRecorder::new();
    let level = MemoryLevel::new();
    let replica = || ::metrics::with_local_recorder(&recorder, || at_once().replica(level.clone(), as_it_is));
    let (a, b) = (replica(), replica());
    settle().await;
    for n in 0..3 {
        a.read_of(n).await;
        settle().await;
        b.read_of(n).await;
    }
    let healthy = [
        ("cache_requests tool=read outcome=hit", 3),
        ("cache_requests tool=read outcome=miss", 3),
        ("cache_second_level outcome=hit", 3),
        ("cache_second_level outcome=miss", 3),
        ("cache_second_level_puts outcome=put", 3),
    ];
    assert_eq!(counted(&recorder), counts(healthy));
    // The breaker of reads opens after five failures, and closes with the probe.
    a.faults.set(FAILS);
    for n in 10..16 {
        a.read_of(n).await;
    }
    tokio::time::sleep(SECOND).await;
    a.faults.set(WORKS);
    tokio::time::sleep(6 * SECOND).await;
    a.read_of(16).await;
    settle().await;
    let mut broken = counted(&recorder);
    assert!(broken.remove("cache_second_level_failures step=subscribe").is_some());
    let failing = [
        ("cache_requests tool=read outcome=miss", 7),
        ("cache_second_level outcome=unknown", 6),
        ("cache_second_level outcome=miss", 1),
        ("cache_second_level_failures step=get", 5),
        ("cache_second_level_breaker steps=read to=open", 1),
        ("cache_second_level_breaker steps=read to=closed", 1),
        ("cache_second_level_puts outcome=put", 1),
    ];
    assert_eq!(broken, counts(failing));
    // Values that cannot be written are dropped or lost, and the breaker of writes opens by itself.
    a.faults.set(HANGS_WRITING);
    futures_util::future::join_all((100..3_100).map(|n| a.read_of(n))).await;
    tokio::time::sleep(SECOND).await;
    let writing = counted(&recorder);
    let of = |name: &str| writing.get(name).copied().unwrap_or_default();
    let dropped = a.level().dropped_puts;
    assert!(dropped > 0 && of("cache_second_level_puts outcome=dropped") == dropped);
    assert_eq!(of("cache_second_level_puts outcome=failed"), 3_000 - dropped);
    assert_eq!(of("cache_second_level_failures step=put"), 5);
    assert_eq!(of("cache_second_level_breaker steps=write to=open"), 1);
}
