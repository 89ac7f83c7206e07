//! What each layer of a stack does, and what is wrong with the stack: [`explain()`].
//!
//! A layer acts only where this is safe, and passes on everything else. So a tool without annotations is neither cached nor retried, and a
//! layer in the wrong place does something else than was meant. No setting is invalid, and no call fails. An explanation shows both.
//!
//! Use it while you build a stack, and in a test of the server. It takes one listing of the tools. Calls cost nothing more.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{CachedTool, Layer, RetryTool, explain};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Users;
//!
//! #[server(name = "users", version = "1.0.0")]
//! impl Users {
//!     /// Reads a user.
//!     #[tool(read_only = true)]
//!     async fn get_user(&self, id: i64) -> McpResult<String> {
//!         Ok(format!("user {id}"))
//!     }
//!
//!     /// Renames a user.
//!     #[tool]
//!     async fn rename_user(&self, id: i64, name: String) -> McpResult<String> {
//!         Ok(format!("user {id} is {name}"))
//!     }
//! }
//!
//! let server = (CachedTool::new(), RetryTool::new()).layer(Users);
//! let explanation = explain(&server);
//! let table = explanation.to_string();
//! assert_eq!(table.lines().take(4).collect::<Vec<_>>(), [
//!     "tool         layers, from outside in  settings",
//!     "get_user     CachedTool               ttl 5 min, scope Principal",
//!     "             RetryTool                attempts 3",
//!     "rename_user  none",
//! ]);
//! assert!(table.ends_with(
//!     "no warnings\n\
//!      note: without annotations, and so without CachedTool and RetryTool: `rename_user`. \
//!      Annotate a tool `read_only = true` if it only reads.\n"
//! ));
//! ```
//!
//! The same as data: [`Explanation::tools`], [`Explanation::layers`], [`Explanation::warnings`] and [`Explanation::notes`]. In a server over
//! stdio, print the text with `eprintln!`: stdout belongs to the protocol.
//!
//! # Example: a mistake is an error
//!
//! [`strict`](Explanation::strict) turns all warnings of a stack into one error. Use it in `main` after the stack is built, or in a test.
//!
//! ```
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{CachedTool, Layer, RetryTool, explain};
//! use turbomcp::ToolResult;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users = ScriptedServer::new("users")
//!     .with_read_only("get_user", |_| async { Ok(ToolResult::text("Ada")) });
//!
//! let wrong = (RetryTool::new(), CachedTool::new()).layer(users.clone());
//! let error = explain(&wrong).strict().unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "RetryTool is outside CachedTool for `get_user`: the failure of one load reaches all \
//!  callers who wait for it, and each of them repeats it. Put CachedTool outside RetryTool.",
//! );
//!
//! let right = (CachedTool::new(), RetryTool::new()).layer(users);
//! // An error prints no table, so print it first.
//! let explanation = explain(&right);
//! eprintln!("{explanation}");
//! explanation.strict()?;
//! # Ok(()) }
//! ```
//!
//! # Warnings
//!
//! - **A layer acts on no tool, resource or prompt**, because no tool has the annotation that it needs, or because its selectors leave
//!   all tools out. The warning names the reason and the fix.
//! - **A setting names a tool on which the layer does not act**, such as `with_ttl_for` for a tool that is not annotated
//!   `read_only = true`. If no tool of the server has the name, it is an error when the layer is put on.
//! - **Two layers are in the wrong order** for a tool that both act on. [The page about the order](crate::guide::ordering#warnings)
//!   lists these orders.
//! - **Two layers have the same role** for one tool, such as two caches. Two caches for different tools are right.
//!
//! Each warning is also logged when the layer is put on, beside one line that names the tools that the layer acts on. With an empty
//! catalogue, a layer is checked in the first listing that has tools.
//!
//! # Notes
//!
//! A note is no warning, and [`strict`](Explanation::strict) does not fail for it. It names the **tools without any annotation**, with the
//! layers that leave them out for that reason. A tool that writes is right there. A tool that only reads lacks `read_only = true`.
//!
//! # Example: a layer of your own
//!
//! A layer of yours appears under the name of its type, as one that acts on every tool. With
//! [`Middleware::describe`](crate::Middleware::describe), it says more. If it has a [`Role`], its place is checked like that of the
//! layers of this crate.
//!
//! ```
//! use mcp_patterns::explain::Description;
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{Layer, Middleware, explain, layer};
//! use turbomcp::{Tool, ToolResult};
//!
//! #[derive(Clone)]
//! struct Audited;
//!
//! impl Middleware for Audited {
//!     fn describe(&self, tools: &[Tool]) -> Description {
//!         let audited =
//!             tools.iter().map(|tool| &tool.name).filter(|tool| tool.starts_with("pay"));
//!         Description::of::<Self>().with_tools(audited).with_setting("sink", "stderr")
//!     }
//! }
//!
//! let bank = ScriptedServer::new("bank")
//!     .with_plain("pay", |_| async { Ok(ToolResult::text("paid")) })
//!     .with_read_only("balance", |_| async { Ok(ToolResult::text("5")) });
//! let explanation = explain(&layer(Audited).layer(bank));
//! assert_eq!(explanation.layers()[0].name, "Audited");
//! assert_eq!(explanation.layers()[0].tools, ["pay"]);
//! ```
//!
//! # Which layers it finds
//!
//! The layers report while a plain listing passes them. So an explanation has each layer that lists in the same thread as the handler
//! around it: also inside composites and boxed handlers, and inside handlers of your own. An `Option` layer that is `None` does not appear.
//! The explanation has the tools of the plain listing, and not those that only some callers see.
//!
//! The names are those of the tools as the server lists them, also where a composite adds a prefix. A handler that stores the listing of
//! the handler below, and lists that from then on, hides its layers.

mod collector;
mod description;
mod explanation;
mod note;
mod orders;
mod table;
mod text;
mod warning;

use turbomcp_core::McpHandler;

pub(crate) use self::collector::{Passing, has_reads, list_for_bind, pass, put_on};
pub use self::description::{Description, Role, Setting};
pub use self::explanation::{Action, ExplainedLayer, ExplainedTool, Explanation};
pub use self::note::Note;
pub(crate) use self::text::{bytes, time, time_or_none};
pub use self::warning::{StrictError, Warning};

/// Explains what each layer of a server does. See the [manual](self).
///
/// It lists the tools once, as a client without an identity does.
pub fn explain<H: McpHandler>(server: &H) -> Explanation {
    let (tools, collector) = collector::collect(|| server.list_tools());
    Explanation::new(&tools, collector)
}

#[cfg(test)]
mod tests;
