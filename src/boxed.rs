//! A server without its type: [`boxed()`].

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use turbomcp_core::{McpHandler, McpResult, RequestContext};
use turbomcp_types::{
    ListTasksResult, Prompt, PromptResult, Resource, ResourceResult, ResourceTemplate, ServerCapabilities, ServerInfo,
    Task, Tool, ToolResult,
};

use crate::middleware::{forward, middleware_methods, unlayered_methods};

/// Erases the type of a server.
///
/// The type of a server with layers names each layer, so servers with different layers have different types. A
/// [`BoxHandler`] is one type for all of them. Use it for a struct field, for both branches of an `if`, or for the items of a
/// `Vec`. It is a handler like any other: layers can be put around it, and a composite can contain it.
///
/// # Example: a struct field
///
/// ```
/// use mcp_patterns::{BoxHandler, Layer, RetryTool, boxed};
/// use turbomcp::McpHandler;
/// use turbomcp::prelude::*;
///
/// #[derive(Clone)]
/// struct Weather;
/// #[server(name = "weather", version = "1.0.0")]
/// impl Weather {
///     /// Reads the weather.
///     #[tool(read_only = true)]
///     async fn get_weather(&self) -> McpResult<String> {
///         Ok("sunny".to_owned())
///     }
/// }
///
/// struct App {
///     server: BoxHandler,
/// }
///
/// let app = App { server: boxed(RetryTool::new().layer(Weather)) };
/// assert_eq!(app.server.server_info().name, "weather");
/// ```
///
/// # Example: layers that are chosen at run time
///
/// ```
/// use mcp_patterns::{BoxHandler, CachedTool, Layer, RetryTool, boxed};
/// use serde_json::json;
/// use turbomcp::{McpHandler, RequestContext};
/// use turbomcp::prelude::*;
///
/// #[derive(Clone)]
/// struct Weather;
/// #[server(name = "weather", version = "1.0.0")]
/// impl Weather {
///     /// Reads the weather.
///     #[tool(read_only = true)]
///     async fn get_weather(&self) -> McpResult<String> {
///         Ok("sunny".to_owned())
///     }
/// }
///
/// fn server(in_production: bool) -> BoxHandler {
///     if in_production {
///         boxed((CachedTool::new(), RetryTool::new()).layer(Weather))
///     } else {
///         boxed(Weather)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let answer =
///     server(true).call_tool("get_weather", json!({}), &RequestContext::new()).await?;
/// assert_eq!(answer.meta.unwrap()["mcp-patterns/cache"]["status"], "miss");
/// let answer =
///     server(false).call_tool("get_weather", json!({}), &RequestContext::new()).await?;
/// assert_eq!(answer.meta, None);
/// # Ok(()) }
/// ```
///
/// For one optional layer, an `Option` is enough: `layer(in_production.then(CachedTool::new))`.
///
/// # Example: several servers
///
/// ```
/// use mcp_patterns::{BoxHandler, CachedTool, Layer, boxed, testing::ScriptedServer};
/// use turbomcp::McpHandler;
///
/// let servers: Vec<BoxHandler> = vec![
///     boxed(ScriptedServer::new("films")),
///     boxed(CachedTool::new().layer(ScriptedServer::new("books"))),
/// ];
/// let names: Vec<_> = servers.iter().map(|server| server.server_info().name).collect();
/// assert_eq!(names, ["films", "books"]);
/// ```
///
/// # Cost
///
/// A request costs one more allocation, for the future of the server, with any number of layers. The future of the `BoxHandler`
/// itself has the size of two pointers. A listing costs no allocation.
///
/// # Clones
///
/// A clone of a `BoxHandler` is one more reference to the same server. turbomcp clones a server for each request. Requests to a
/// `BoxHandler` share one value instead, as requests to a server with layers do. So a server that is expensive to clone costs
/// nothing, and a server that resets a field in its `Clone` does not reset it for each request.
#[must_use]
pub fn boxed<H: McpHandler>(server: H) -> BoxHandler {
    BoxHandler(Arc::new(server))
}

/// A server without its type. Created by [`boxed()`].
///
/// Its `Debug` text names the type of the server.
#[derive(Clone)]
pub struct BoxHandler(Arc<dyn ErasedHandler>);

impl BoxHandler {
    fn inner(&self) -> &dyn ErasedHandler {
        &*self.0
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxHandler").field(&format_args!("{}", self.inner().type_name())).finish()
    }
}

// See `Layered`: a method that turbomcp adds must fail the build here.
#[deny(clippy::missing_trait_methods)]
impl McpHandler for BoxHandler {
    middleware_methods!(forward);
    unlayered_methods!(forward);
}

macro_rules! declare {
    (sync: $(fn $method:ident(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method(&self $(, $arg: $ty)*) -> $output;)*
    };
    (async: $(fn $method:ident<$life:lifetime>(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method<$life>(&$life self $(, $arg: $ty)*) -> BoxFuture<$life, McpResult<$output>>;)*
    };
    (hook: $(fn $method:ident(&self);)*) => {
        $(fn $method(&self) -> BoxFuture<'_, McpResult<()>>;)*
    };
}

/// [`McpHandler`] with boxed futures, which makes a trait object of it.
trait ErasedHandler: Send + Sync {
    fn type_name(&self) -> &'static str;

    middleware_methods!(declare);
    unlayered_methods!(declare);
}

macro_rules! erase {
    (sync: $(fn $method:ident(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method(&self $(, $arg: $ty)*) -> $output {
            McpHandler::$method(self $(, $arg)*)
        })*
    };
    (async: $(fn $method:ident<$life:lifetime>(&self $(, $arg:ident: $ty:ty)*) -> $output:ty;)*) => {
        $(fn $method<$life>(&$life self $(, $arg: $ty)*) -> BoxFuture<$life, McpResult<$output>> {
            Box::pin(McpHandler::$method(self $(, $arg)*))
        })*
    };
    (hook: $(fn $method:ident(&self);)*) => {
        $(fn $method(&self) -> BoxFuture<'_, McpResult<()>> {
            Box::pin(McpHandler::$method(self))
        })*
    };
}

impl<H: McpHandler> ErasedHandler for H {
    fn type_name(&self) -> &'static str {
        type_name::<H>()
    }

    middleware_methods!(erase);
    unlayered_methods!(erase);
}
