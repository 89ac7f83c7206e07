//! The cost of layers around a server of rmcp, in process: time and allocations of a call, compared with the bare server and with the same
//! work written by hand.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says why and stops")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use allocation_counter::measure;
use mcp_patterns::{CachedTool, Layer, Middleware, RetryTool, RmcpServer, layer};
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, RequestId};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use plain::Plain;
use rows::Row;

#[path = "../tests/it/rmcp_cost/plain.rs"]
mod plain;
#[path = "support/rows.rs"]
mod rows;

/// Changes nothing, but acts on every call.
#[derive(Debug, Clone)]
struct Through;

impl Middleware for Through {}

/// Calls the server again if it fails, without this crate.
struct RetryByHand(Plain);

impl ServerHandler for RetryByHand {
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut delay = Duration::from_millis(50);
        for _ in 1..3 {
            let answer = self.0.call_tool(request.clone(), ctx.clone()).await;
            if answer.is_ok() {
                return answer;
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        self.0.call_tool(request, ctx).await
    }
}

/// Keeps answers, without this crate.
struct CacheByHand {
    server: Plain,
    answers: moka::sync::Cache<String, Arc<CallToolResult>>,
}

impl CacheByHand {
    fn new(server: Plain) -> Self {
        let answers = moka::sync::Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build();
        Self { server, answers }
    }
}

impl ServerHandler for CacheByHand {
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        ctx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let key = serde_json::to_string(&(&request.name, &request.arguments)).expect("arguments are JSON");
        if let Some(answer) = self.answers.get(&key) {
            return Ok(CallToolResponse::Complete((*answer).clone()));
        }
        // Other callers may want the answer, also if this one leaves.
        let server = self.server.clone();
        let answer = tokio::spawn(async move { server.call_tool(request, ctx).await }).await.expect("no panic")?;
        if let CallToolResponse::Complete(answer) = &answer {
            self.answers.insert(key, Arc::new(answer.clone()));
        }
        Ok(answer)
    }
}

/// Counts the allocations of calls, and makes rows to be timed.
struct Calls {
    runtime: Runtime,
    peer: Peer<RoleServer>,
    rows: Vec<Row>,
}

impl Calls {
    fn same(&mut self, name: &str, tool: &'static str, server: impl ServerHandler) {
        self.add(name, tool, false, server);
    }

    fn different(&mut self, name: &str, tool: &'static str, server: impl ServerHandler) {
        self.add(name, tool, true, server);
    }

    fn add(&mut self, name: &str, tool: &'static str, differs: bool, server: impl ServerHandler) {
        /// A cache sometimes runs maintenance, so calls differ: the median is the usual call.
        const COUNTED: usize = 1001;
        let (calls, peer) = (AtomicUsize::new(0), self.peer.clone());
        let make = move || {
            let call = calls.fetch_add(usize::from(differs), Ordering::Relaxed);
            let args = JsonObject::from_iter([("id".to_owned(), json!(call))]);
            let request = CallToolRequestParams::new(tool).with_arguments(args);
            (request, RequestContext::new(RequestId::Number(1), peer.clone()))
        };
        let mut counted: Vec<_> = (0..COUNTED)
            .map(|_| {
                let mut input = Some(make());
                let count = measure(|| {
                    let (request, ctx) = input.take().expect("it is called once");
                    drop(self.runtime.block_on(server.call_tool(request, ctx)).expect("an answer"));
                });
                (count.count_total, count.bytes_total)
            })
            .collect();
        counted.sort_unstable();
        let (count, bytes) = counted[COUNTED / 2];
        println!("{name:<24} {count:>12} {bytes:>10}");
        self.rows.push(Row::new(name, 1, make, async move |(request, ctx)| server.call_tool(request, ctx).await));
    }
}

fn main() {
    // The connection whose client calls.
    let connected = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = Plain::new();
    let (_client, peer) = connected.block_on(server.connect());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut calls = Calls { runtime, peer, rows: Vec::new() };

    let _within = connected.enter();
    let on = || RmcpServer::new(server.clone());
    let through = layer(Through);
    println!("{:<24} {:>12} {:>10}", "call", "allocations", "bytes");
    calls.same("bare", "plain", server.clone());
    calls.same("idle_1", "plain", RetryTool::new().layer(on()));
    calls.same("idle_2", "plain", plain::two(server.clone()));
    calls.same("idle_7", "plain", plain::whole(server.clone()));
    calls.same("acts_1", "plain", through.layer(on()));
    calls.same("acts_6", "plain", (&through, &through, &through, &through, &through, &through).layer(on()));
    calls.same("retry", "read", RetryTool::new().layer(on()));
    calls.same("retry_by_hand", "read", RetryByHand(server.clone()));
    calls.same("hit", "read", CachedTool::new().layer(on()));
    calls.same("hit_without_meta", "read", CachedTool::new().without_meta().layer(on()));
    calls.same("hit_by_hand", "read", CacheByHand::new(server.clone()));
    calls.different("miss", "read", CachedTool::new().layer(on()));
    calls.different("miss_by_hand", "read", CacheByHand::new(server.clone()));
    if !rows::is_measured() {
        return;
    }
    let times = rows::side_by_side(&calls.rows);
    println!("\n{:<24} {:>10} {:>12}", "call", "ns", "over bare");
    for (row, time) in calls.rows.iter().zip(&times) {
        println!("{:<24} {time:>10.0} {:>12.0}", row.name, time - times[0]);
    }
}
