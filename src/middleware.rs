//! How a layer becomes a handler: [`Middleware`], [`Layered`] and [`layer()`].
//!
//! A layer of your own is a type that implements [`Middleware`] and overrides the methods it needs. [`layer()`] turns it
//! into a [`tower_layer::Layer`], so that it stacks with the layers of this crate.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, Middleware, RetryTool, layer};
//! use serde_json::Value;
//! use turbomcp::{McpHandler, McpResult, RequestContext, ToolResult};
//! use turbomcp::prelude::*;
//!
//! /// Logs every call.
//! #[derive(Clone)]
//! struct Logged;
//!
//! impl Middleware for Logged {
//!     async fn call_tool<'a, H: McpHandler>(
//!         &'a self,
//!         inner: &'a H,
//!         name: &'a str,
//!         args: Value,
//!         ctx: &'a RequestContext,
//!     ) -> McpResult<ToolResult> {
//!         let result = inner.call_tool(name, args, ctx).await;
//!         eprintln!("{name}: {}", if result.is_ok() { "answered" } else { "refused" });
//!         result
//!     }
//! }
//! #[derive(Clone)]
//! struct Hello;
//! #[server(name = "hello", version = "1.0.0")]
//! impl Hello {
//!     /// Greets.
//!     #[tool]
//!     async fn hello(&self, name: String) -> McpResult<String> {
//!         Ok(format!("Hello {name}"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = (layer(Logged), RetryTool::new()).layer(Hello);
//! let answer = server
//!     .call_tool("hello", serde_json::json!({"name": "Ada"}), &RequestContext::new())
//!     .await?;
//! assert_eq!(answer.first_text(), Some("Hello Ada"));
//! # Ok(()) }
//! ```
//!
//! For an optional layer, use an `Option`, which is itself a middleware: `layer(cached.then(CachedTool::new))`. For stacks that differ
//! more, [`boxed()`](crate::boxed) makes servers of one type.
//!
//! A layer that takes an argument of its own from the calls adds it with [`arguments`](crate::arguments), so that the layers
//! further out do not treat it as an argument of the tool.

mod apply;
mod layered;
mod methods;
mod optional;

use std::future::Future;

use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{PromptResult, ResourceResult, ServerCapabilities, Tool, ToolResult};

use crate::ConfigError;
use crate::explain::Description;

pub use apply::{MiddlewareLayer, TryLayer, layer};
pub(crate) use apply::{impl_layer, or_panic};
pub use layered::Layered;
#[cfg(feature = "rmcp")]
pub(crate) use layered::without_learning;
pub(crate) use methods::{forward, middleware_methods, unlayered_methods};

/// The target of a request, for [`Middleware::acts_on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// The tool with this name.
    Tool(&'a str),
    /// The resource with this URI.
    Resource(&'a str),
    /// The prompt with this name.
    Prompt(&'a str),
    /// The list of tools.
    ToolList,
}

/// A layer: it decides how to handle each request. By default, every method calls the inner handler.
///
/// The value is cloned when it is put on a handler. All clones of the server share that clone. A later version may add methods, whose
/// default calls the inner handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a middleware",
    label = "does not implement `Middleware`",
    note = "implement `mcp_patterns::Middleware` for it: all of its methods have defaults; it must be `Clone + Send + Sync + 'static`"
)]
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

    /// Receives the tools of every listing that passes, so that the layer knows a catalogue that changes: the listing of the caller of
    /// `ctx`, or the plain listing.
    fn observe_tools(&self, tools: &[Tool], ctx: Option<&RequestContext>) {
        let _ = (tools, ctx);
    }

    /// Describes the layer for an [explanation](crate::explain()) of the stack, and for the log: its name, its settings, and on which of
    /// `tools` it acts, as it has listed them. Default: the name of its type.
    fn describe(&self, tools: &[Tool]) -> Description {
        let _ = tools;
        Description::of::<Self>()
    }

    /// Says whether the layer may act on a request. A layer that does not is not asked to handle it, where the end of the stack is a
    /// [server of rmcp](crate::guide::with_rmcp): a request on which no layer acts need not be converted. Default: true.
    fn acts_on(&self, target: Target<'_>) -> bool {
        let _ = target;
        true
    }

    /// Forgets the tools of earlier listings, because the server has announced that its tools have changed.
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

    /// Returns the capabilities of the server.
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
