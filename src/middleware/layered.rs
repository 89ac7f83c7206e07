//! A handler with a middleware in front of it: [`Layered`].

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult,
};

use super::{Middleware, forward, unlayered_methods};
use crate::{ConfigError, arguments};

/// A handler with a [`Middleware`] in front of it: itself a handler, on every transport.
///
/// A transport clones its handler for each request. Clones share the middleware and the inner handler, so that cloning a whole stack
/// increments one reference count.
#[derive(Debug)]
pub struct Layered<M, H>(Arc<Stacked<M, H>>);

#[derive(Debug)]
struct Stacked<M, H> {
    middleware: M,
    inner: H,
}

impl<M, H> Clone for Layered<M, H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Middleware, H: McpHandler> Layered<M, H> {
    /// Creates a handler with `middleware` in front of `inner`.
    ///
    /// # Errors
    ///
    /// Those of [`Middleware::bind`].
    pub fn try_new(middleware: M, inner: H) -> Result<Self, ConfigError> {
        let middleware = arguments::listing(|| middleware.bind(&inner))?;
        Ok(Self(Arc::new(Stacked { middleware, inner })))
    }

    /// Returns the inner handler.
    #[must_use]
    pub fn inner(&self) -> &H {
        &self.0.inner
    }

    /// Returns the middleware, as it was bound to the handler.
    #[must_use]
    pub fn middleware(&self) -> &M {
        &self.0.middleware
    }
}

// A method that turbomcp adds must fail the build here: answered by its default ("not supported"), it would hide what the
// inner handler supports.
#[deny(clippy::missing_trait_methods)]
impl<M: Middleware, H: McpHandler> McpHandler for Layered<M, H> {
    fn call_tool<'a>(
        &'a self,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        self.middleware().call_tool(self.inner(), name, args, ctx)
    }

    fn read_resource<'a>(
        &'a self,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ResourceResult>> + Send + 'a {
        self.middleware().read_resource(self.inner(), uri, ctx)
    }

    fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<PromptResult>> + Send + 'a {
        self.middleware().get_prompt(self.inner(), name, args, ctx)
    }

    fn subscribe<'a>(
        &'a self,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<()>> + Send + 'a {
        self.middleware().subscribe(self.inner(), uri, ctx)
    }

    fn list_tools(&self) -> Vec<Tool> {
        arguments::list(|| {
            let tools = self.middleware().list_tools(self.inner());
            self.middleware().observe_tools(&tools, None);
            tools
        })
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        arguments::list(|| {
            let tools = self.middleware().list_tools_for(self.inner(), ctx);
            self.middleware().observe_tools(&tools, Some(ctx));
            tools
        })
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        self.middleware().server_capabilities(self.inner())
    }

    fn on_initialize(&self) -> impl Future<Output = McpResult<()>> + Send {
        self.middleware().on_initialize(self.inner())
    }

    fn on_shutdown(&self) -> impl Future<Output = McpResult<()>> + Send {
        self.middleware().on_shutdown(self.inner())
    }

    unlayered_methods!(forward);
}
