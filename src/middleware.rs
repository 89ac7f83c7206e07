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
//! An optional layer is an `Option`, itself a middleware: `layer(cached.then(CachedTool::new))`.

use std::future::Future;

use futures_util::future::Either;
use serde_json::Value;
use tower_layer::Layer;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult,
};

use crate::ConfigError;

/// Decides what happens to the requests that pass a layer. Every method defaults to asking the inner handler.
///
/// The value is cloned with the server, once per request: keep state behind an [`Arc`](std::sync::Arc).
pub trait Middleware: Clone + Send + Sync + 'static {
    /// Checks the settings against the handler below and indexes its catalogue, once, when the layer is put on.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] stops the server from being built: [`TryLayer::try_layer`] returns it, [`Layer::layer`] panics
    /// with its text.
    fn bind<H: McpHandler>(self, inner: &H) -> Result<Self, ConfigError> {
        let _ = inner;
        Ok(self)
    }

    /// Sees the tools of every listing that passes, so that a catalogue which changes stays known.
    fn observe_tools(&self, tools: &[Tool]) {
        let _ = tools;
    }

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

    fn observe_tools(&self, tools: &[Tool]) {
        if let Some(middleware) = self {
            middleware.observe_tools(tools);
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
#[derive(Clone, Debug)]
pub struct Layered<M, H> {
    middleware: M,
    inner: H,
}

impl<M: Middleware, H: McpHandler> Layered<M, H> {
    /// Puts `middleware` in front of `inner`.
    ///
    /// # Errors
    ///
    /// Whatever [`Middleware::bind`] finds wrong with the settings.
    pub fn try_new(middleware: M, inner: H) -> Result<Self, ConfigError> {
        let middleware = middleware.bind(&inner)?;
        Ok(Self { middleware, inner })
    }

    /// Returns the handler below.
    pub fn inner(&self) -> &H {
        &self.inner
    }

    /// Returns the middleware, as it was bound to the handler.
    pub fn middleware(&self) -> &M {
        &self.middleware
    }
}

macro_rules! forward {
    (sync: $(fn $method:ident(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method(&self $(, $arg: $ty)*) -> $output {
            self.inner.$method($($arg),*)
        })*
    };
    (async: $(fn $method:ident<$life:lifetime>(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method<$life>(&$life self $(, $arg: $ty)*) -> impl Future<Output = McpResult<$output>> + Send + $life {
            self.inner.$method($($arg),*)
        })*
    };
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
        self.middleware.call_tool(&self.inner, name, args, ctx)
    }

    fn list_tools(&self) -> Vec<Tool> {
        let tools = self.middleware.list_tools(&self.inner);
        self.middleware.observe_tools(&tools);
        tools
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        let tools = self.middleware.list_tools_for(&self.inner, ctx);
        self.middleware.observe_tools(&tools);
        tools
    }

    fn server_capabilities(&self) -> ServerCapabilities {
        self.middleware.server_capabilities(&self.inner)
    }

    fn on_initialize(&self) -> impl Future<Output = McpResult<()>> + Send {
        self.middleware.on_initialize(&self.inner)
    }

    fn on_shutdown(&self) -> impl Future<Output = McpResult<()>> + Send {
        self.middleware.on_shutdown(&self.inner)
    }

    forward! { sync:
        fn server_info(&self) -> ServerInfo;
        fn instructions(&self) -> Option<String>;
        fn list_resources(&self) -> Vec<Resource>;
        fn list_resources_for(&self, ctx: &RequestContext) -> Vec<Resource>;
        fn list_resource_templates(&self) -> Vec<ResourceTemplate>;
        fn list_resource_templates_for(&self, ctx: &RequestContext) -> Vec<ResourceTemplate>;
        fn list_prompts(&self) -> Vec<Prompt>;
        fn list_prompts_for(&self, ctx: &RequestContext) -> Vec<Prompt>;
        fn page_size(&self) -> Option<usize>;
    }

    forward! { async:
        fn read_resource<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ResourceResult;
        fn get_prompt<'a>(&self, name: &'a str, args: Option<Value>, ctx: &'a RequestContext) -> PromptResult;
        fn list_tasks<'a>(&self, cursor: Option<&'a str>, limit: Option<usize>, ctx: &'a RequestContext) -> ListTasksResult;
        fn get_task<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Task;
        fn cancel_task<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Task;
        fn get_task_result<'a>(&self, task_id: &'a str, ctx: &'a RequestContext) -> Value;
        fn subscribe<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ();
        fn unsubscribe<'a>(&self, uri: &'a str, ctx: &'a RequestContext) -> ();
        fn set_log_level<'a>(&self, level: &'a str, ctx: &'a RequestContext) -> ();
        fn complete<'a>(&self, params: Value, ctx: &'a RequestContext) -> Value;
        fn on_roots_list_changed<'a>(&self, ctx: &'a RequestContext) -> ();
    }
}

/// Turns a [`Middleware`] into a [`Layer`], to stand in a tuple or a `tower::ServiceBuilder`.
pub fn layer<M: Middleware>(middleware: M) -> MiddlewareLayer<M> {
    MiddlewareLayer { middleware }
}

/// The [`Layer`] of a [`Middleware`]. Made by [`layer()`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put on a handler"]
pub struct MiddlewareLayer<M> {
    middleware: M,
}

impl<M: Middleware, H: McpHandler> Layer<H> for MiddlewareLayer<M> {
    type Service = Layered<M, H>;

    fn layer(&self, inner: H) -> Self::Service {
        or_panic(self.try_layer(inner))
    }
}

impl<M: Middleware, H: McpHandler> TryLayer<H> for MiddlewareLayer<M> {
    fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
        Layered::try_new(self.middleware.clone(), inner)
    }
}

/// Puts a layer, or a tuple of layers, on a handler and returns what is wrong with the settings.
///
/// [`Layer::layer`] does the same, but has no way to return an error and panics with its text.
///
/// ```
/// use mcp_patterns::{CachedTool, RetryTool, TryLayer};
/// # use turbomcp::prelude::*;
/// # #[derive(Debug, Clone)] struct Users;
/// # #[server(name = "users", version = "1.0.0")]
/// # impl Users {
/// #     /// Reads a user.
/// #     #[tool(read_only = true)] async fn get_user(&self, id: i64) -> McpResult<String> { Ok(format!("user {id}")) }
/// # }
///
/// let mistake = (CachedTool::new().only(["get_users"]), RetryTool::new()).try_layer(Users).unwrap_err();
/// assert_eq!(mistake.to_string(), "CachedTool names the tool `get_users`, which the server does not have: did you mean `get_user`?");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put on `{H}`",
    label = "not a layer of this handler",
    note = "a layer is one of this crate's (`RetryTool::new()`), `layer(your_middleware)`, or a tuple of up to eight of them",
    note = "a handler implements `turbomcp::McpHandler`, as a `#[server]` type does"
)]
pub trait TryLayer<H>: Layer<H> {
    /// Puts the layer on `inner`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] when a setting cannot work with this handler.
    fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError>;
}

/// Ends a configuration that `Layer::layer` has no way to refuse.
pub(crate) fn or_panic<S>(layered: Result<S, ConfigError>) -> S {
    match layered {
        Ok(layered) => layered,
        Err(mistake) => panic!("{mistake}"),
    }
}

/// Makes a middleware that is its own builder its own `Layer` too.
macro_rules! impl_layer {
    ($layer:ty) => {
        impl<H: turbomcp_core::McpHandler> tower_layer::Layer<H> for $layer {
            type Service = $crate::Layered<$layer, H>;

            fn layer(&self, inner: H) -> Self::Service {
                $crate::middleware::or_panic($crate::TryLayer::try_layer(self, inner))
            }
        }

        impl<H: turbomcp_core::McpHandler> $crate::TryLayer<H> for $layer {
            fn try_layer(&self, inner: H) -> Result<Self::Service, $crate::ConfigError> {
                $crate::Layered::try_new(self.clone(), inner)
            }
        }
    };
}
pub(crate) use impl_layer;

/// The type that the layers leave `$handler` in, the last named put on first.
macro_rules! service {
    ($handler:ident;) => { $handler };
    ($handler:ident; $outer:ident $($rest:ident)*) => { <$outer as Layer<service!($handler; $($rest)*)>>::Service };
}

/// `TryLayer` for tuples: every layer with those inside it, and all of them in the order in which they are put on.
macro_rules! try_layer_tuples {
    ($($(($layer:ident: $($inside:ident)*))+ => $($put_on:ident)+;)+) => {
        $(
            impl<H, $($layer),+> TryLayer<H> for ($($layer,)+)
            where
                Self: Layer<H, Service = service!(H; $($layer)+)>,
                $($layer: TryLayer<service!(H; $($inside)*)>),+
            {
                #[expect(non_snake_case, reason = "the layers are named like their types")]
                fn try_layer(&self, inner: H) -> Result<Self::Service, ConfigError> {
                    let ($($layer,)+) = self;
                    $(let inner = $put_on.try_layer(inner)?;)+
                    Ok(inner)
                }
            }
        )+
    };
}

try_layer_tuples! {
    (A:) => A;
    (A: B) (B:) => B A;
    (A: B C) (B: C) (C:) => C B A;
    (A: B C D) (B: C D) (C: D) (D:) => D C B A;
    (A: B C D E) (B: C D E) (C: D E) (D: E) (E:) => E D C B A;
    (A: B C D E F) (B: C D E F) (C: D E F) (D: E F) (E: F) (F:) => F E D C B A;
    (A: B C D E F G) (B: C D E F G) (C: D E F G) (D: E F G) (E: F G) (F: G) (G:) => G F E D C B A;
    (A: B C D E F G I) (B: C D E F G I) (C: D E F G I) (D: E F G I) (E: F G I) (F: G I) (G: I) (I:) => I G F E D C B A;
}
