mod cuts;
mod errors;
#[cfg(feature = "metrics")]
mod metrics;
mod order;
#[cfg(all(feature = "sqlite", feature = "transactional"))]
mod payments;
mod property;
mod redactions;
mod schemas;
mod settings;
mod spills;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use turbomcp_core::{McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{Content, ResourceLink, Tool, ToolOutputSchema, ToolResult};

use super::size::answer_bytes;
use super::{OutputTool, Spill};
use crate::outcome::{self, OUTPUT};
use crate::testing::ScriptedServer;
use crate::{Layer, Middleware, TryLayer};

/// The bound of most tests.
const BYTES: usize = 2_000;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn user(name: &str) -> RequestContext {
    RequestContext::new().with_user_id(name)
}

/// A bound without anything else.
fn bound() -> OutputTool {
    OutputTool::new().with_max_bytes(BYTES)
}

/// A bound that keeps what is above it.
fn keeping() -> OutputTool {
    bound().with_spill(Spill::new())
}

/// A tool, read-only or not, with or without an output schema.
fn tool(name: &str, is_read_only: bool, schema: Option<Value>) -> Tool {
    let annotations = ToolAnnotations { read_only_hint: is_read_only.then_some(true), ..Default::default() };
    let schema = schema.map(|schema| serde_json::from_value::<ToolOutputSchema>(schema).expect("a schema"));
    Tool { annotations: Some(annotations), output_schema: schema, ..Tool::new(name, "answers") }
}

/// The schema of `{"rows": ["…"]}`.
fn rows_schema() -> Value {
    let rows = json!({ "type": "array", "items": { "type": "string" } });
    json!({ "type": "object", "properties": { "rows": rows }, "required": ["rows"] })
}

/// A server whose tools give this answer: `read`, `write`, and both with a schema.
fn answering(answer: McpResult<ToolResult>) -> ScriptedServer {
    let tools = [
        tool("read", true, None),
        tool("write", false, None),
        tool("read_rows", true, Some(rows_schema())),
        tool("write_rows", false, Some(rows_schema())),
    ];
    let answer = Arc::new(answer);
    tools.into_iter().fold(ScriptedServer::new("server"), |server, tool| {
        let answer = Arc::clone(&answer);
        server.with_tool(tool, move |_| {
            let answer = Arc::clone(&answer);
            async move { McpResult::clone(&answer) }
        })
    })
}

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("This is line {line}\n")).collect()
}

fn rows(count: usize) -> ToolResult {
    let rows = json!({ "rows": vec!["a row of some bytes"; count] });
    ToolResult { structured_content: Some(rows), ..ToolResult::text(format!("{count} rows")) }
}

async fn call(server: &impl McpHandler, tool: &str, ctx: &RequestContext) -> ToolResult {
    server.call_tool(tool, json!({}), ctx).await.expect("a result")
}

/// What the layer says that it has done.
fn status(answer: &ToolResult) -> Value {
    let meta = answer.meta.as_ref();
    meta.and_then(|meta| Some(meta.get(OUTPUT)?["status"].clone())).unwrap_or_default()
}

fn text(block: &Content) -> &str {
    block.as_text().expect("a text")
}

fn link(answer: &ToolResult) -> Option<&ResourceLink> {
    match answer.content.last()? {
        Content::ResourceLink(link) => Some(link),
        _ => None,
    }
}

/// Reads the whole answer: the texts of its contents.
async fn whole(server: &impl McpHandler, answer: &ToolResult, ctx: &RequestContext) -> Option<Vec<String>> {
    let read = server.read_resource(&link(answer).expect("a link").uri, ctx).await.ok()?;
    Some(
        read.contents
            .iter()
            .map(|contents| contents.text().or(contents.blob()).unwrap_or_default().to_owned())
            .collect(),
    )
}

/// A server whose tools give this answer as it is, also an error of the protocol.
fn raising(layer: &OutputTool, answer: McpResult<ToolResult>) -> impl McpHandler {
    (layer.clone(), crate::layer(Raising(answer))).layer(answering(Ok(ToolResult::default())))
}

#[derive(Clone)]
struct Raising(McpResult<ToolResult>);

impl Middleware for Raising {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        _: &'a H,
        _: &'a str,
        _: Value,
        _: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        self.0.clone()
    }
}
