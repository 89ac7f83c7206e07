//! The stacks in front of a server, the same for times and for allocations.

use std::pin::Pin;
use std::time::Duration;

use mcp_patterns::{CachedTool, Layer, Middleware, RetryTool, layer};
use serde_json::Value;
use turbomcp::{McpHandler, McpResult, RequestContext, ToolResult};
use turbomcp_server::{McpMiddleware, MiddlewareStack, Next};

/// Takes each of the handlers to be compared.
pub(crate) trait Visit {
    fn visit<H: McpHandler>(&mut self, stack: &'static str, server: H);
}

/// Layers that do not act, in front of a server whose tools are not annotated.
pub(crate) fn idle<H: McpHandler>(server: &H, visitor: &mut impl Visit) {
    let (pass, awaiting) = (layer(Pass), layer(Awaiting));
    let (retry, cached) = (RetryTool::new(), CachedTool::new());
    let on = || server.clone();

    visitor.visit("bare", on());
    visitor.visit("pass_1", pass.layer(on()));
    visitor.visit("pass_6", (&pass, &pass, &pass, &pass, &pass, &pass).layer(on()));
    visitor.visit("own_async_1", awaiting.layer(on()));
    visitor.visit("own_async_6", (&awaiting, &awaiting, &awaiting, &awaiting, &awaiting, &awaiting).layer(on()));
    visitor.visit("retry_1", retry.layer(on()));
    visitor.visit("cached_1", cached.layer(on()));
    visitor.visit("retry_cached_6", (&cached, &retry, &cached, &retry, &cached, &retry).layer(on()));
    visitor.visit("turbomcp_stack_1", stack_of(1, on()));
    visitor.visit("turbomcp_stack_6", stack_of(6, on()));
}

/// A retry that is not needed, by the crate and handwritten, for the tool `add`.
pub(crate) fn retrying<H: McpHandler>(server: &H, visitor: &mut impl Visit) {
    visitor.visit("retry_acts", RetryTool::new().allow_repeated_effects(["add"]).layer(server.clone()));
    visitor.visit("retry_by_hand", layer(RetryByHand).layer(server.clone()));
}

/// Overrides nothing.
#[derive(Debug, Clone)]
struct Pass;

impl Middleware for Pass {}

/// A typical first layer of a user: an `async` body around the inner call.
#[derive(Debug, Clone)]
struct Awaiting;

impl Middleware for Awaiting {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        inner.call_tool(name, args, ctx).await
    }
}

/// The retry loop of a server without this crate.
#[derive(Debug, Clone)]
struct RetryByHand;

impl Middleware for RetryByHand {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let mut delay = Duration::from_millis(50);
        for _ in 1..3 {
            let result = inner.call_tool(name, args.clone(), ctx).await;
            let failed = match &result {
                Ok(result) => result.is_error(),
                Err(error) => error.is_retryable(),
            };
            if !failed {
                return result;
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        inner.call_tool(name, args, ctx).await
    }
}

/// turbomcp's own middleware in front of a server.
fn stack_of<H: McpHandler>(middlewares: usize, server: H) -> MiddlewareStack<H> {
    (0..middlewares).fold(MiddlewareStack::new(server), |stack, _| stack.with_middleware(Hop))
}

struct Hop;

impl McpMiddleware for Hop {
    fn on_call_tool<'a>(
        &'a self,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
        next: Next<'a>,
    ) -> Pin<Box<dyn Future<Output = McpResult<ToolResult>> + Send + 'a>> {
        Box::pin(next.call_tool(name, args, ctx))
    }
}
