//! Servers of the official Rust SDK, `rmcp`, under the same layers: [`RmcpServer`].
//!
//! Any [`ServerHandler`](rmcp::ServerHandler) becomes the end of a stack. The stack is itself a `ServerHandler`, and all transports of rmcp
//! serve it. [The guide](crate::guide::with_rmcp) has principals, sessions, factories and the differences.
//!
//! # Dependencies
//!
//! The example of this page goes [into a `main`](crate::guide#how-to-run-an-example), and needs:
//!
//! ```sh
//! cargo add mcp-patterns --features rmcp
//! cargo add rmcp@3.11 --features client,transport-io
//! cargo add serde --features derive
//! cargo add schemars@1 serde_json
//! cargo add tokio --features full
//! ```
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{CachedTool, RetryTool, RmcpServer, TryLayer};
//! use rmcp::handler::server::{router::tool::ToolRouter, wrapper::Parameters};
//! use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
//!
//! #[derive(Clone)]
//! struct Weather {
//!     tool_router: ToolRouter<Self>,
//! }
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Place {
//!     city: String,
//! }
//!
//! #[tool_router]
//! impl Weather {
//!     #[tool(description = "Reads the weather", annotations(read_only_hint = true))]
//!     async fn weather(&self, Parameters(Place { city }): Parameters<Place>) -> String {
//!         format!("Sunny in {city}")
//!     }
//! }
//!
//! #[tool_handler(router = self.tool_router)]
//! impl ServerHandler for Weather {}
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weather = RmcpServer::try_new(Weather { tool_router: Weather::tool_router() })?;
//! let server = (CachedTool::new(), RetryTool::new()).try_layer(weather)?;
//!
//! // `server.serve(rmcp::transport::stdio()).await` serves it. Here a client in the same
//! // process calls it.
//! let (near, far) = tokio::io::duplex(4096);
//! tokio::spawn(async move {
//!     let running = server.serve(far).await.expect("the client connects");
//!     running.waiting().await
//! });
//! let client = ().serve(near).await?;
//! let mut call = rmcp::model::CallToolRequestParams::new("weather");
//! call.arguments = serde_json::json!({"city": "Paris"}).as_object().cloned();
//! client.call_tool(call.clone()).await?;
//! let again = client.call_tool(call).await?;
//! assert_eq!(again.meta.unwrap()["mcp-patterns/cache"]["status"], "hit");
//! # Ok(()) }
//! ```
//!
//! # What passes the layers
//!
//! | request | path |
//! | --- | --- |
//! | `tools/call`, `resources/read`, `prompts/get` | through the layers, if one of them [may act](crate::Middleware::acts_on) on it; else straight to the server, unconverted |
//! | `tools/list` and `get_tool` | through the layers: they see the annotations, and add arguments and tools |
//! | `initialize`, `server/discover` | to the server; the capabilities of tools and resources are added where only layers have some |
//! | all others, and all notifications | straight to the server |
//!
//! # Errors
//!
//! [`RmcpServer::try_new`] and the layers return a [`ConfigError`](crate::ConfigError) for a mistake in the settings. An error of the server
//! reaches its client with its own code, message and data; layers add entries to the data. [`Failed`] is an error with a kind, such as
//! "temporary", by which layers act.
//!
//! # Cancellation
//!
//! The server's `ct` is cancelled when the client cancels. If several callers wait for one call, it is cancelled when the last of them
//! leaves.

mod call;
mod client;
mod connections;
mod convert;
mod end;
mod failed;
mod forwarding_peer;
mod listing;
mod server;
mod stack;
mod stack_error;
#[cfg(test)]
mod tests;

pub use turbomcp_core::{McpError, Principal, RequestContext};

pub use self::failed::Failed;
pub use self::server::RmcpServer;
pub use self::stack::RmcpStack;
pub use self::stack_error::StackError;
