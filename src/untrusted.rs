//! A server whose word counts for nothing: [`UntrustedServer`].

use std::collections::HashMap;

use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{PromptResult, ResourceResult, Tool, ToolResult};

use crate::Middleware;
use crate::middleware::impl_layer;

/// Makes the layers around it ignore what a server says of its tools and of its answers.
///
/// The layers of this crate believe a server: a tool that is annotated read-only is cached, one that is annotated idempotent is
/// called again, and an answer that is marked as refused before it began frees its idempotency key. That is right for a server of
/// your own. A server that you only pass on, such as an upstream behind a proxy, could say anything. The [specification][spec]
/// asks to treat annotations as untrusted unless they come from a trusted server.
///
/// Put this layer directly around such a server, as the innermost one. It removes
///
/// - the annotations of tools, except a title,
/// - entries of `_meta`, and of the data of errors, whose name begins with `mcp-patterns/`,
/// - in the `_meta` of tools, and of answers, also entries whose name begins with `io.turbomcp/`, and `retryAfterMs`.
///
/// So a layer further out acts only on the tools that its settings name, and you say with them what is safe:
///
/// | layer | setting |
/// | --- | --- |
/// | `CachedTool`, `BatchedTool` | `allow_skipped_effects(["search"])`: a call may be left out |
/// | `RetryTool` | `allow_repeated_effects(["search"])`: a call may be made twice |
/// | `CachedTool` | `invalidates("update", ["search"])`: a call makes answers wrong |
/// | `IdempotentTool`, `TransactionalTool` | `only(["update"])` |
///
/// Marks that layers of your own set on the way out are not touched, since these stand outside.
///
/// Clients see no annotations either, and take such tools for ones that may destroy something.
///
/// # Example
///
/// ```
/// use mcp_patterns::{CachedTool, Layer, RetryTool, UntrustedServer, testing::ScriptedServer};
/// use serde_json::json;
/// use turbomcp::{McpHandler, RequestContext, ToolResult};
///
/// // It says of both tools that they change nothing. One of them does.
/// let upstream = ScriptedServer::new("upstream")
///     .with_read_only("search", |call| async move { Ok(ToolResult::text(format!("answer {}", call.number))) })
///     .with_read_only("order", |call| async move { Ok(ToolResult::text(format!("order {}", call.number))) });
/// let server = (
///     CachedTool::new().allow_skipped_effects(["search"]),
///     RetryTool::new().allow_repeated_effects(["search"]),
///     UntrustedServer::new(),
/// )
///     .layer(upstream);
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut texts = Vec::new();
/// for tool in ["search", "search", "order", "order"] {
///     let answer = server.call_tool(tool, json!({}), &RequestContext::new()).await?;
///     texts.push(answer.first_text().unwrap_or_default().to_owned());
/// }
/// assert_eq!(texts, ["answer 1", "answer 1", "order 1", "order 2"]);
/// # Ok::<(), turbomcp::McpError>(()) }).unwrap();
/// ```
///
/// # Failures
///
/// A failed result of the server has no kind any more, so it is not temporary, and proves nothing: it is not tried again, and
/// makes an idempotency key ambiguous. A proxy that knows what went wrong returns an `Err(McpError)`, whose kind counts: it is the
/// proxy's word. It must not copy the kind from the upstream's answer.
///
/// [spec]: https://modelcontextprotocol.io/specification/2025-11-25/server/tools#tool
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct UntrustedServer(());

impl UntrustedServer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self(())
    }
}

/// What the layers of this crate read in `_meta`.
fn is_believed(key: &str) -> bool {
    key.starts_with("mcp-patterns/") || key.starts_with("io.turbomcp/") || key == "retryAfterMs"
}

fn clean(meta: &mut Option<HashMap<String, Value>>) {
    if let Some(entries) = meta {
        entries.retain(|key, _| !is_believed(key));
        if entries.is_empty() {
            *meta = None;
        }
    }
}

fn clean_error(mut error: McpError) -> McpError {
    if let Some(Value::Object(data)) = error.context.as_mut().and_then(|context| context.data.as_mut()) {
        data.retain(|key, _| !key.starts_with("mcp-patterns/"));
    }
    error
}

fn clean_tools(mut tools: Vec<Tool>) -> Vec<Tool> {
    for tool in &mut tools {
        let title = tool.annotations.take().and_then(|annotations| annotations.title);
        tool.annotations = title.map(|title| ToolAnnotations { title: Some(title), ..ToolAnnotations::default() });
        clean(&mut tool.meta);
    }
    tools
}

impl Middleware for UntrustedServer {
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        clean_tools(inner.list_tools())
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        clean_tools(inner.list_tools_for(ctx))
    }

    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let mut result = inner.call_tool(name, args, ctx).await.map_err(clean_error)?;
        clean(&mut result.meta);
        Ok(result)
    }

    async fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> McpResult<ResourceResult> {
        let mut result = inner.read_resource(uri, ctx).await.map_err(clean_error)?;
        clean(&mut result.meta);
        Ok(result)
    }

    async fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        let mut result = inner.get_prompt(name, args, ctx).await.map_err(clean_error)?;
        clean(&mut result.meta);
        Ok(result)
    }
}

impl_layer!(UntrustedServer);
