//! For tests: a scripted server that counts its calls, and contract tests for backends of your own.
//!
//! # Dependencies
//!
//! ```sh
//! cargo add --dev mcp-patterns --features testing
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, RetryTool, testing::ScriptedServer};
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script =
//!     ScriptedServer::new("weather").with_read_only("get_weather", |call| async move {
//!         if call.number < 3 {
//!             Err(McpError::unavailable("try again"))
//!         } else {
//!             Ok(ToolResult::text("sunny"))
//!         }
//!     });
//! let server = RetryTool::new().layer(script.clone());
//!
//! let answer = server.call_tool("get_weather", json!({}), &RequestContext::new()).await?;
//! assert_eq!(answer.first_text(), Some("sunny"));
//! assert_eq!(script.calls("get_weather"), 3);
//! # Ok(()) }
//! ```

#[cfg(test)]
mod caller;
#[cfg(test)]
pub(crate) mod client;
#[cfg(test)]
#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
pub(crate) mod databases;
#[cfg(feature = "idempotent")]
mod idempotency;
#[cfg(feature = "idempotent")]
#[cfg_attr(docsrs, doc(cfg(feature = "idempotent")))]
pub use idempotency::idempotency_backend_contract;
#[cfg(test)]
#[cfg(feature = "postgres")]
#[expect(dead_code, reason = "`tests/it` has it, too, and uses the rest")]
pub(crate) mod private_postgres;
#[cfg(test)]
#[cfg(feature = "redis")]
pub(crate) mod private_redis;
#[cfg(test)]
#[cfg(any(feature = "postgres", feature = "redis"))]
#[expect(dead_code, reason = "`tests/it` has it, too, and uses the rest")]
pub(crate) mod proxy;
#[cfg(feature = "rmcp")]
mod rmcp_event_store;
#[cfg(feature = "rmcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "rmcp")))]
pub use rmcp_event_store::rmcp_event_store_contract;
#[cfg(feature = "rmcp")]
mod rmcp_session_manager;
#[cfg(feature = "rmcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "rmcp")))]
pub use rmcp_session_manager::rmcp_session_manager_contract;
#[cfg(feature = "rmcp")]
mod rmcp_session_store;
#[cfg(feature = "rmcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "rmcp")))]
pub use rmcp_session_store::rmcp_session_store_contract;
#[cfg(feature = "session")]
mod session;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use session::session_backend_contract;
#[cfg(feature = "cached")]
mod second_level;
#[cfg(test)]
mod seen;
#[cfg(test)]
pub(crate) use caller::Token;
#[cfg(feature = "cached")]
#[cfg_attr(docsrs, doc(cfg(feature = "cached")))]
pub use second_level::second_level_contract;
#[cfg(test)]
pub(crate) use seen::{Took, Traced, counted, counts};

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use turbomcp_core::{McpError, McpHandler, McpResult, RequestContext, ToolAnnotations};
use turbomcp_types::{
    LoggingCapabilities, Prompt, PromptResult, Resource, ResourceResult, ServerCapabilities, ServerInfo, Tool,
    ToolResult, ToolsCapabilities,
};

/// A server whose tools are closures. A failure becomes a result with `isError`, as in a `#[server]`.
///
/// Clones share the counts.
#[derive(Clone)]
pub struct ScriptedServer {
    info: ServerInfo,
    tools: Vec<Tool>,
    scripts: HashMap<String, (Script, Arc<AtomicUsize>)>,
    listings: Arc<AtomicUsize>,
}

type Script = Arc<dyn Fn(Call) -> BoxFuture<'static, McpResult<ToolResult>> + Send + Sync>;

/// A call that reached a [`ScriptedServer`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// The number of this call among the calls of the tool, from 1.
    pub number: usize,
    /// The arguments.
    pub args: Value,
    /// The context.
    pub ctx: RequestContext,
}

impl ScriptedServer {
    /// Creates a server without tools.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            info: ServerInfo::new(name, "1.0.0"),
            tools: Vec::new(),
            scripts: HashMap::new(),
            listings: Arc::default(),
        }
    }

    /// Adds a read-only tool.
    #[must_use]
    pub fn with_read_only<F>(self, name: &str, script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = McpResult<ToolResult>> + Send + 'static,
    {
        let annotations = ToolAnnotations { read_only_hint: Some(true), ..Default::default() };
        self.with_tool(Tool { annotations: Some(annotations), ..Tool::new(name, "changes nothing") }, script)
    }

    /// Adds a tool without annotations.
    #[must_use]
    pub fn with_plain<F>(self, name: &str, script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = McpResult<ToolResult>> + Send + 'static,
    {
        self.with_tool(Tool::new(name, "says nothing about itself"), script)
    }

    /// Adds a tool.
    #[must_use]
    pub fn with_tool<F>(mut self, tool: Tool, script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = McpResult<ToolResult>> + Send + 'static,
    {
        let script: Script = Arc::new(move |call| script(call).boxed());
        self.scripts.insert(tool.name.clone(), (script, Arc::default()));
        self.tools.push(tool);
        self
    }

    /// Returns how often a tool was called.
    #[must_use]
    pub fn calls(&self, tool: &str) -> usize {
        self.scripts.get(tool).map_or(0, |(_, calls)| calls.load(Ordering::SeqCst))
    }

    /// Returns how often the tools were listed.
    #[must_use]
    pub fn listings(&self) -> usize {
        self.listings.load(Ordering::SeqCst)
    }
}

impl McpHandler for ScriptedServer {
    fn server_info(&self) -> ServerInfo {
        self.info.clone()
    }

    // The default would list the tools for each request.
    fn server_capabilities(&self) -> ServerCapabilities {
        let tools = Some(ToolsCapabilities { list_changed: Some(true) });
        ServerCapabilities { tools, logging: Some(LoggingCapabilities::default()), ..Default::default() }
    }

    fn list_tools(&self) -> Vec<Tool> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        self.tools.clone()
    }

    fn list_resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    fn list_prompts(&self) -> Vec<Prompt> {
        Vec::new()
    }

    async fn call_tool<'a>(&'a self, name: &'a str, args: Value, ctx: &'a RequestContext) -> McpResult<ToolResult> {
        let (script, calls) = self.scripts.get(name).ok_or_else(|| McpError::tool_not_found(name))?;
        let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
        let result = script(Call { number, args, ctx: ctx.clone() }).await;
        Ok(result.unwrap_or_else(|error| error.to_tool_result()))
    }

    async fn read_resource<'a>(&'a self, uri: &'a str, _: &'a RequestContext) -> McpResult<ResourceResult> {
        Err(McpError::resource_not_found(uri))
    }

    async fn get_prompt<'a>(
        &'a self,
        name: &'a str,
        _: Option<Value>,
        _: &'a RequestContext,
    ) -> McpResult<PromptResult> {
        Err(McpError::prompt_not_found(name))
    }
}

impl fmt::Debug for ScriptedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedServer").field("info", &self.info.name).finish_non_exhaustive()
    }
}
