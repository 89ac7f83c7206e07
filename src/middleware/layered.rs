//! A handler with a middleware in front of it: [`Layered`].

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
#[cfg(feature = "rmcp")]
use std::sync::atomic::Ordering;

use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult,
};

use super::{Middleware, forward, unlayered_methods};
use crate::explain::{self, Passing};
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
    /// Whether the place of the layer in the stack has been checked: not before there are tools.
    is_checked: AtomicBool,
}

thread_local! {
    static IS_NOT_LEARNING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `list` without any layer learning the tools, or being judged by them: they are not all tools.
#[cfg(feature = "rmcp")]
pub(crate) fn without_learning<A>(list: impl FnOnce() -> A) -> A {
    /// Also if a layer panics.
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_NOT_LEARNING.set(self.0);
        }
    }
    let _reset = Reset(IS_NOT_LEARNING.replace(true));
    list()
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
        let (middleware, is_checked) = explain::put_on(&inner, || middleware.bind(&inner), M::describe)?;
        Ok(Self(Arc::new(Stacked { middleware, inner, is_checked })))
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

    /// Puts the same middleware on another handler of the same kind.
    #[cfg(feature = "rmcp")]
    pub(crate) fn with_inner(&self, inner: H) -> Self {
        let stacked = Stacked {
            middleware: self.middleware().clone(),
            inner,
            is_checked: AtomicBool::new(self.0.is_checked.load(Ordering::Relaxed)),
        };
        Self(Arc::new(stacked))
    }

    /// Lists the tools through the middleware, which learns of them.
    fn listed(&self, ctx: Option<&RequestContext>, list: impl FnOnce() -> Vec<Tool>) -> Vec<Tool> {
        if IS_NOT_LEARNING.get() {
            return arguments::list(list);
        }
        let has_reads = || explain::has_reads(self.inner());
        let passing =
            Passing { address: Arc::as_ptr(&self.0).addr(), is_checked: &self.0.is_checked, has_reads: &has_reads };
        let list = || {
            let tools = list();
            self.middleware().observe_tools(&tools, ctx);
            tools
        };
        arguments::list(|| explain::pass(&passing, list, |tools| self.middleware().describe(tools)))
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
        self.listed(None, || self.middleware().list_tools(self.inner()))
    }

    fn list_tools_for(&self, ctx: &RequestContext) -> Vec<Tool> {
        self.listed(Some(ctx), || self.middleware().list_tools_for(self.inner(), ctx))
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
