//! How layers treat tools that are listed late, differ between callers, were removed, or come from another server.

mod gone;
mod listing;
mod per_caller;
mod unlisted;
mod untrusted;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mcp_patterns::idempotent::MemoryBackend;
use mcp_patterns::{
    BatchedTool, CachedTool, IdempotentTool, Layer, RetryTool, SessionStore, TransactionalTool, ValidatedTool,
    transactional,
};
use serde_json::{Value, json};
use sqlx::{Sqlite, SqlitePool};
use turbomcp_core::error::ErrorKind;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{
    Prompt, PromptResult, Resource, ResourceResult, ServerCapabilities, ServerInfo, Tool, ToolResult,
};

/// A server whose listing is a function of the caller, and whose tools exist whether they are listed or not. Each
/// answers with its number of calls, and its arguments.
#[derive(Clone)]
struct Catalogue {
    list: Arc<List>,
    listings: Arc<AtomicUsize>,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
}

type List = dyn Fn(Option<&RequestContext>) -> Vec<Tool> + Send + Sync;

impl Catalogue {
    fn new(list: impl Fn(Option<&RequestContext>) -> Vec<Tool> + Send + Sync + 'static) -> Self {
        Self { list: Arc::new(list), listings: Arc::default(), calls: Arc::default() }
    }

    fn listings(&self) -> usize {
        self.listings.load(Ordering::SeqCst)
    }

    fn calls(&self, tool: &str) -> usize {
        self.calls.lock().expect("no panic").get(tool).copied().unwrap_or_default()
    }

    fn list(&self, ctx: Option<&RequestContext>) -> Vec<Tool> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        (self.list)(ctx)
    }
}

impl McpHandler for Catalogue {
    fn server_info(&self) -> ServerInfo {
        ServerInfo::new("catalogue", "1.0.0")
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        ServerCapabilities::default()
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.list(None)
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        self.list(Some(ctx))
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, _: &'a RequestContext) -> McpResult<ToolResult> {
        let number = {
            let mut calls = self.calls.lock().expect("no panic");
            let calls = calls.entry(name.to_owned()).or_default();
            *calls += 1;
            *calls
        };
        match name {
            "flaky" if number % 2 == 1 => return Err(McpError::unavailable("not yet")),
            "transfer" => {
                transactional::current::<Sqlite>().await?;
            }
            _ => {}
        }
        Ok(ToolResult::text(format!("{number} {args}")))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Err(McpError::resource_not_found(uri))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        Err(McpError::prompt_not_found(name))
    }
}

fn nobody() -> RequestContext {
    RequestContext::with_id("1").with_session_id("1")
}

fn user(name: &str) -> RequestContext {
    nobody().with_user_id(name)
}

fn tool(name: &str) -> Tool {
    Tool::new(name, "a tool")
}

fn read_only(name: &str) -> Tool {
    let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
    Tool { annotations: Some(annotations), ..tool(name) }
}

/// A tool with exactly these arguments; the first is required.
fn with_arguments(name: &str, arguments: &[&str]) -> Tool {
    let properties: serde_json::Map<_, _> =
        arguments.iter().map(|name| ((*name).to_owned(), json!({ "type": "string", "maxLength": 5 }))).collect();
    let schema = json!({ "type": "object", "properties": properties, "required": arguments[..1], "additionalProperties": false });
    Tool { input_schema: serde_json::from_value(schema).expect("a schema"), ..tool(name) }
}

/// Shows `send`, `transfer` and `look` to those who have signed in: the plain listing is the public one.
fn for_members() -> Catalogue {
    Catalogue::new(|ctx| {
        let mut tools = vec![tool("ping")];
        if ctx.is_some_and(|ctx| ctx.subject().is_some()) {
            tools.extend([with_arguments("send", &["to"]), tool("transfer"), read_only("look")]);
        }
        tools
    })
}

async fn pool() -> SqlitePool {
    SqlitePool::connect("sqlite::memory:").await.expect("a database")
}

/// All layers in the documented order.
fn whole(pool: SqlitePool, server: Catalogue) -> impl McpHandler {
    (
        ValidatedTool::new(),
        SessionStore::in_memory().when(|_| true),
        CachedTool::new(),
        BatchedTool::new().when(|tool| mcp_patterns::selection::Hints::of(tool).read_only),
        RetryTool::new(),
        IdempotentTool::new(MemoryBackend::new()).when(|tool| tool.name == "send"),
        TransactionalTool::new(pool).when(|tool| tool.name == "transfer"),
    )
        .layer(server)
}

/// The text of an answer, or the kind of a failure.
fn said(result: McpResult<ToolResult>) -> Result<String, Option<ErrorKind>> {
    match mcp_patterns::outcome::failure(&result).map(|failure| failure.kind()) {
        Some(kind) => Err(kind),
        None => Ok(result.expect("a success").first_text().unwrap_or_default().to_owned()),
    }
}

async fn call(
    server: &impl McpHandler,
    name: &str,
    args: Value,
    ctx: &RequestContext,
) -> Result<String, Option<ErrorKind>> {
    said(server.call_tool(name, args, ctx).await)
}
