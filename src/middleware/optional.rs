//! An optional layer: [`Middleware`] for `Option`.

use std::future::Future;

use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ServerCapabilities, Tool, ToolResult};

use super::{Middleware, Target};
use crate::ConfigError;
use crate::explain::Description;

/// `None` passes every request on unchanged.
impl<M: Middleware> Middleware for Option<M> {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.map(|middleware| middleware.bind(inner)).transpose()
    }

    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        if let Some(middleware) = self {
            middleware.observe_tools(tools, ctx);
        }
    }

    fn describe(&self, tools: &[Tool]) -> Description {
        self.as_ref().map_or_else(Description::transparent, |middleware| middleware.describe(tools))
    }

    fn acts_on(&self, target: Target<'_>) -> bool {
        self.as_ref().is_some_and(|middleware| middleware.acts_on(target))
    }

    fn forget_definitions(&self) {
        if let Some(middleware) = self {
            middleware.forget_definitions();
        }
    }

    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.call_tool(inner, name, args, ctx)),
            None => Either::Right(inner.call_tool(name, args, ctx)),
        }
    }

    fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ResourceResult>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.read_resource(inner, uri, ctx)),
            None => Either::Right(inner.read_resource(uri, ctx)),
        }
    }

    fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<PromptResult>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.get_prompt(inner, name, args, ctx)),
            None => Either::Right(inner.get_prompt(name, args, ctx)),
        }
    }

    fn subscribe<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<()>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.subscribe(inner, uri, ctx)),
            None => Either::Right(inner.subscribe(uri, ctx)),
        }
    }

    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        match self {
            Some(middleware) => middleware.list_tools(inner),
            None => inner.list_tools(),
        }
    }

    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        match self {
            Some(middleware) => middleware.list_tools_for(inner, ctx),
            None => inner.list_tools_for(ctx),
        }
    }

    fn server_capabilities<H: McpHandler>(&self, inner: &H) -> ServerCapabilities {
        match self {
            Some(middleware) => middleware.server_capabilities(inner),
            None => inner.server_capabilities(),
        }
    }

    fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> impl Future<Output = McpResult<()>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.on_initialize(inner)),
            None => Either::Right(inner.on_initialize()),
        }
    }

    fn on_shutdown<'a, H: McpHandler>(&'a self, inner: &'a H) -> impl Future<Output = McpResult<()>> + Send + 'a {
        match self {
            Some(middleware) => Either::Left(middleware.on_shutdown(inner)),
            None => Either::Right(inner.on_shutdown()),
        }
    }
}
