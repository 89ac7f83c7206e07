//! A custom layer: it logs the caller, the tool and the outcome of each call.

use std::time::Instant;

use mcp_patterns::{Middleware, outcome};
use serde_json::Value;
use turbomcp::prelude::*;

/// Logs every call of a tool, but not its arguments.
#[derive(Debug, Clone)]
pub struct Logged;

impl Middleware for Logged {
    async fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> McpResult<ToolResult> {
        let started = Instant::now();
        let result = inner.call_tool(name, args, ctx).await;
        let failure = outcome::failure(&result).and_then(|failure| failure.kind());
        tracing::info!(
            tool = name,
            user = ctx.subject().unwrap_or("nobody"),
            failure = failure.map(tracing::field::debug),
            took = ?started.elapsed(),
            "called"
        );
        result
    }
}
