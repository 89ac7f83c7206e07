//! How a layer becomes a handler: [`Middleware`], [`Layered`] and [`layer()`].
//!
//! A layer of your own is one type that implements [`Middleware`] and overrides what it wants to see. [`layer()`] turns it
//! into a [`tower_layer::Layer`], so that it stacks with the layers of this crate.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, Middleware, RetryTool, layer};
//! use serde_json::Value;
//! use turbomcp::{McpHandler, McpResult, RequestContext, ToolResult};
//! # use turbomcp::prelude::*;
//!
//! /// Logs every call.
//! #[derive(Clone)]
//! struct Logged;
//!
//! impl Middleware for Logged {
//!     async fn call_tool<'a, H: McpHandler>(
//!         &'a self, inner: &'a H, name: &'a str, args: Value, ctx: &'a RequestContext,
//!     ) -> McpResult<ToolResult> {
//!         let result = inner.call_tool(name, args, ctx).await;
//!         eprintln!("{name}: {}", if result.is_ok() { "answered" } else { "refused" });
//!         result
//!     }
//! }
//! # #[derive(Clone)] struct Hello;
//! # #[server(name = "hello", version = "1.0.0")]
//! # impl Hello {
//! #     /// Greets.
//! #     #[tool] async fn hello(&self, name: String) -> McpResult<String> { Ok(format!("Hello {name}")) }
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let server = (layer(Logged), RetryTool::new()).layer(Hello);
//! let answer = server.call_tool("hello", serde_json::json!({"name": "Ada"}), &RequestContext::new()).await?;
//! assert_eq!(answer.first_text(), Some("Hello Ada"));
//! # Ok::<(), turbomcp::McpError>(()) }).unwrap();
//! ```
//!
//! An optional layer is an `Option`, itself a middleware: `layer(cached.then(CachedTool::new))`. For stacks that differ in more
//! than that, [`boxed()`](crate::boxed) makes servers of one type.
//!
//! A layer that takes an argument of its own from the calls adds it with [`arguments`], so that the layers
//! further out know that it is none of the tool's.

mod apply;
mod methods;

use std::future::Future;
use std::sync::Arc;

use futures_util::future::Either;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult,
};

use crate::{ConfigError, arguments};

pub use apply::{MiddlewareLayer, TryLayer, layer};
pub(crate) use apply::{impl_layer, or_panic};
pub(crate) use methods::{forward, middleware_methods, unlayered_methods};

/// Decides what happens to the requests that pass a layer. Every method defaults to asking the inner handler.
///
/// The value is cloned when it is put on a handler, and shared by all clones of the server from then on.
pub trait Middleware: Clone + Send + Sync + 'static {
    /// Checks the settings against the handler below and indexes its catalogue, once, when the layer is put on.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] stops the server from being built: [`TryLayer::try_layer`] returns it,
    /// [`Layer::layer`](tower_layer::Layer::layer) panics with its text.
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        let _ = inner;
        Ok(self)
    }

    /// Sees the tools of every listing that passes, so that a catalogue which changes stays known: those that the caller of `ctx`
    /// was told of, or the plain listing.
    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        let _ = (tools, ctx);
    }

    /// Forgets what was learned from listings, because the server has said that its tools have changed.
    fn forget_definitions(&self) {}

    /// Calls a tool.
    fn call_tool<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Value,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ToolResult>> + Send + 'a {
        inner.call_tool(name, args, ctx)
    }

    /// Reads a resource.
    fn read_resource<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<ResourceResult>> + Send + 'a {
        inner.read_resource(uri, ctx)
    }

    /// Gets a prompt.
    fn get_prompt<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        name: &'a str,
        args: Option<Value>,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<PromptResult>> + Send + 'a {
        inner.get_prompt(name, args, ctx)
    }

    /// Subscribes the caller to the updates of a resource.
    fn subscribe<'a, H: McpHandler>(
        &'a self,
        inner: &'a H,
        uri: &'a str,
        ctx: &'a RequestContext,
    ) -> impl Future<Output = McpResult<()>> + Send + 'a {
        inner.subscribe(uri, ctx)
    }

    /// Lists the tools.
    fn list_tools<H: McpHandler>(&self, inner: &H) -> Vec<Tool> {
        inner.list_tools()
    }

    /// Lists the tools that the caller of `ctx` may see.
    fn list_tools_for<H: McpHandler>(&self, inner: &H, ctx: &RequestContext) -> Vec<Tool> {
        inner.list_tools_for(ctx)
    }

    /// Says what the server can do.
    fn server_capabilities<H: McpHandler>(&self, inner: &H) -> ServerCapabilities {
        inner.server_capabilities()
    }

    /// Runs when the server starts.
    fn on_initialize<'a, H: McpHandler>(&'a self, inner: &'a H) -> impl Future<Output = McpResult<()>> + Send + 'a {
        inner.on_initialize()
    }

    /// Runs when the server stops.
    fn on_shutdown<'a, H: McpHandler>(&'a self, inner: &'a H) -> impl Future<Output = McpResult<()>> + Send + 'a {
        inner.on_shutdown()
    }
}

/// Acts when it is there, and is transparent when it is not.
impl<M: Middleware> Middleware for Option<M> {
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        self.map(|middleware| middleware.bind(inner)).transpose()
    }

    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        if let Some(middleware) = self {
            middleware.observe_tools(tools, ctx);
        }
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

/// A handler with a [`Middleware`] in front of it: itself a handler, on every transport.
///
/// A transport clones its handler for each request. Clones of this one share the middleware and the handler below, so that cloning a
/// whole stack is one count of references.
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
    /// Puts `middleware` in front of `inner`.
    ///
    /// # Errors
    ///
    /// Whatever [`Middleware::bind`] finds wrong with the settings.
    pub fn try_new(middleware: M, inner: H) -> Result<Self, ConfigError> {
        let middleware = arguments::listing(|| middleware.bind(&inner))?;
        Ok(Self(Arc::new(Stacked { middleware, inner })))
    }

    /// Returns the handler below.
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
