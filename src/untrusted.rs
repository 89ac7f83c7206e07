//! A server whose annotations and marks are not trusted: [`UntrustedServer`].

use std::collections::HashMap;

use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{PromptResult, ResourceResult, Tool, ToolResult};

use crate::Middleware;
use crate::cache_hints::CACHE_HINTS;
use crate::middleware::impl_layer;
use crate::outcome::UNFINISHED;

/// Makes the layers around it ignore a server's annotations of its tools and marks in its answers.
///
/// The layers of this crate trust a server: they cache a tool that is annotated read-only, repeat one that is annotated idempotent, and
/// free the idempotency key of an answer that is marked as refused before it began. That is right for a server of your own. A server
/// that you only proxy, such as an upstream, could state anything. The [specification][spec] requires that clients treat annotations
/// as untrusted unless they come from a trusted server.
///
/// Put this layer directly around such a server, as the innermost one. It removes:
///
/// - the annotations of tools, except a title,
/// - entries of `_meta`, and of the data of errors, whose name begins with `mcp-patterns/`,
/// - in the `_meta` of tools, and of answers, also entries whose name begins with `io.turbomcp/`, and `retryAfterMs`.
///
/// So a layer further out acts only on the tools that its settings name. With these settings, you state what is safe:
///
/// | layer | setting |
/// | --- | --- |
/// | `CachedTool`, `BatchedTool` | `allow_skipped_effects(["search"])`: a call may be answered without being made |
/// | `RetryTool` | `allow_repeated_effects(["search"])`: a call may be made twice |
/// | `CachedTool` | `invalidates("update", ["search"])`: a call invalidates answers |
/// | `IdempotentTool`, `TransactionalTool` | `only(["update"])` |
///
/// Marks that your own layers set stay, since these layers are outside of this one.
///
/// Clients do not see the annotations either, and treat such tools as possibly destructive.
///
/// # Example
///
/// ```
/// use mcp_patterns::testing::ScriptedServer;
/// use mcp_patterns::{CachedTool, Layer, RetryTool, UntrustedServer};
/// use serde_json::json;
/// use turbomcp::{McpHandler, RequestContext, ToolResult};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Its annotations call both tools read-only. One of them is not.
/// let upstream = ScriptedServer::new("upstream")
///     .with_read_only("search", |call| async move {
///         Ok(ToolResult::text(format!("answer {}", call.number)))
///     })
///     .with_read_only("order", |call| async move {
///         Ok(ToolResult::text(format!("order {}", call.number)))
///     });
/// let server = (
///     CachedTool::new().allow_skipped_effects(["search"]),
///     RetryTool::new().allow_repeated_effects(["search"]),
///     UntrustedServer::new(),
/// )
///     .layer(upstream);
///
/// let mut texts = Vec::new();
/// for tool in ["search", "search", "order", "order"] {
///     let answer = server.call_tool(tool, json!({}), &RequestContext::new()).await?;
///     texts.push(answer.first_text().unwrap_or_default().to_owned());
/// }
/// assert_eq!(texts, ["answer 1", "answer 1", "order 1", "order 2"]);
/// # Ok(()) }
/// ```
///
/// # Failures
///
/// A failed result of the server loses its kind. So it is not temporary and proves nothing: it is not repeated, and it makes an
/// idempotency key ambiguous. A proxy that knows the reason of a failure returns an `Err(McpError)`, whose kind counts, since the proxy
/// itself states it. The proxy must not copy the kind from the upstream's answer.
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

/// The entries of `_meta` that the layers of this crate read.
fn is_believed(key: &str) -> bool {
    (key.starts_with("mcp-patterns/") && key != CACHE_HINTS) || key.starts_with("io.turbomcp/") || key == "retryAfterMs"
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
        // An unfinished answer only makes the layers do less.
        data.retain(|key, _| !key.starts_with("mcp-patterns/") || key == UNFINISHED);
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
