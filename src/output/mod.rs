//! Bounds what a tool may answer: [`OutputTool`].
//!
//! Use it so that one answer cannot fill the context of a model or the memory of a client, and so that no text leaves the server that must
//! not. An answer above the bounds is cut, with a sentence that says what is left out and how to ask for less. Or it is kept whole for a
//! while, as a resource that its caller can read, and the sentence says where. A [function](OutputTool::with_redaction) of yours can replace
//! texts before.
//!
//! An output schema is never broken, and a successful call of a tool that is not read-only never becomes an error.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features testing
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Example
//!
//! ```
//! use mcp_patterns::output::Spill;
//! use mcp_patterns::{Layer, OutputTool};
//! use serde_json::json;
//! use turbomcp::prelude::*;
//! use turbomcp::Content;
//!
//! #[derive(Clone)]
//! struct Library;
//!
//! #[server(name = "library", version = "1.0.0")]
//! impl Library {
//!     /// Finds books.
//!     #[tool(read_only = true)]
//!     async fn search(&self, limit: u32) -> McpResult<String> {
//!         Ok((1..=limit).map(|number| format!("{number}. A book about tea\n")).collect())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let output = OutputTool::new()
//!     .with_max_bytes(2_000)
//!     .with_hint("search", "pass a smaller `limit`")
//!     .with_spill(Spill::new());
//! let server = output.layer(Library);
//!
//! let ada = RequestContext::new().with_user_id("ada");
//! let answer = server.call_tool("search", json!({"limit": 1000}), &ada).await?;
//! let [Content::Text(beginning), Content::Text(sentence), Content::ResourceLink(link)] =
//!     &answer.content[..]
//! else {
//!     panic!("{answer:?}")
//! };
//! assert!(beginning.text.starts_with("1. A book about tea\n2. A book about tea\n"));
//! assert!(sentence.text.ends_with(
//!     "of 21893 bytes of text. The whole answer can be read for 15 min from the resource \
//!      that is linked here. To get less, pass a smaller `limit`."
//! ));
//!
//! let whole = server.read_resource(&link.uri, &ada).await?;
//! assert_eq!(whole.contents[0].text().map(str::len), Some(21_893));
//! // For another user there is no such resource.
//! let bob = RequestContext::new().with_user_id("bob");
//! assert!(server.read_resource(&link.uri, &bob).await.is_err());
//! # Ok(()) }
//! ```
//!
//! # Example: texts that must not leave the server
//!
//! ```
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{Layer, OutputTool};
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("crm")
//!     .with_read_only("user", |_| async {
//!         Ok(ToolResult::json(&json!({"name": "Ada", "card": "4111 1111 1111 1111"}))?)
//!     })
//!     .with_plain("charge", |_| async {
//!         Err(McpError::external_service("4111 1111 1111 1111 was declined"))
//!     });
//! let output = OutputTool::new()
//!     .with_redaction(|_tool, text| text.replace("4111 1111 1111 1111", "[card]").into());
//! let server = output.layer(script);
//!
//! let ctx = RequestContext::new();
//! let user = server.call_tool("user", json!({}), &ctx).await?;
//! assert_eq!(user.structured_content.unwrap()["card"], "[card]");
//! let failed = server.call_tool("charge", json!({}), &ctx).await?;
//! assert_eq!(failed.first_text(), Some("[card] was declined"));
//! # Ok(()) }
//! ```
//!
//! # The bounds
//!
//! The [bytes](OutputTool::with_max_bytes) are those of the content and the structured content of an answer, as they are sent: with quotes,
//! escapes and base64. The entries of `_meta` do not count, since a model does not read them. The [items](OutputTool::with_max_items) are the
//! content blocks.
//!
//! Notifications, such as progress and logs, and resources and prompts are not bounded.
//!
//! # What becomes of an answer above the bounds
//!
//! | answer | with [`with_spill`](OutputTool::with_spill) | without it, or if there is no room |
//! | --- | --- | --- |
//! | a success of a read-only tool | kept whole; the answer is its beginning and a link | cut |
//! | a success of any other tool | the same | passed whole, with a warning in the log; cut if you [allow](OutputTool::allow_cut) it |
//! | a failure | cut: it stays a failure, with its kind and its data | cut |
//!
//! A text is cut after a line or a word near the end of the room, or else after a character. An image, a sound, a resource and a link stay or
//! are left out whole. After a text that was cut, nothing follows but the sentence and the link. Annotations and `_meta` stay.
//!
//! The structured content of a tool without an output schema is left out whole if the bytes are too many. With a schema, it stays as it is,
//! and the texts beside it are cut. If the structured content alone is too large,
//!
//! - the success of a read-only tool becomes an error, which says how to ask for less, and has the link: the protocol asks for structured
//!   content in a success, and not in an error,
//! - the success of any other tool is passed whole, with a warning in the log.
//!
//! An [unfinished](crate::outcome::Failure::unfinished) answer is passed as it is.
//!
//! # Kept answers
//!
//! A kept answer is a resource of this server, under a URI that cannot be guessed. It is in no listing. Only calls of the same caller
//! [with the same rights](crate::Identity) can read it; for any other call, it does not exist. Each block is one of the contents, and the
//! structured content is another one. The layer adds the capability of resources to a server that has none.
//!
//! An equal answer of the same caller, as a replay or a hit of a cache gives it, has the same URI, takes no more room, and can be read for the
//! whole [time](Spill::with_ttl) again. No answer is removed before its time, and one principal cannot take the
//! [room](Spill::with_max_bytes_per_principal) of others. If there is no room, an answer is not kept.
//!
//! Kept answers are in the memory of one process. Behind a load balancer, the client must reach the same replica again (sticky routing);
//! without that, do not use `with_spill`. In [`RmcpStack::around`](crate::guide::with_rmcp), a session reads only its own answers. A composite
//! server changes the URIs of its parts: put the layer around the composite, and not around a part.
//!
//! Links are a part of the protocol since its version 2025-06-18. For clients of older versions, do not use `with_spill`.
//!
//! # Redaction
//!
//! The function gets each text of an answer, before it is cut or kept: content blocks of text, embedded resources that are text, name, title
//! and description of links, each string in the structured content, and the message and the data of an error. It does not get `_meta`, URIs,
//! images and other binary data, the names in structured content, the marks of layers, notifications, resources and prompts. A text and the
//! structured content have copies of one string: both are replaced.
//!
//! A string stays a string, so that a schema which asks for types only is never broken. If an output schema constrains strings, with `enum`,
//! `const`, `pattern`, `format`, a length or `uniqueItems`, the layer is a [`ConfigError`](crate::ConfigError) until you say what to do: leave
//! the structured content of the tool [as it is](OutputTool::without_redaction_of_structure), or leave the tool out. Calls of such a tool that
//! is listed later are refused before they begin.
//!
//! # Defaults
//!
//! - tools: every tool
//! - bounds: 100,000 bytes, any number of blocks
//! - kept answers: none; with [`Spill::new`], for 15 minutes, 64 MiB in all, a quarter of it for one principal
//! - redaction: none
//! - identity: [the defaults](crate::Identity#defaults)
//!
//! # Order
//!
//! The bounds belong outside of everything that keeps an answer: a cache, idempotency keys, a transaction. Inside of them, what is kept there
//! has a link that expires before it does. They belong outside of the batches too, whose functions bypass what is further in. So a cache and
//! the record of a key have an answer as the tool gave it, before the redaction: a text that must not be stored has to be removed by the tool.
//! See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! Errors are results with `isError`. Their data has one word in `mcp-patterns/output`:
//!
//! | word | kind | when |
//! | --- | --- | --- |
//! | `too_large` | `tool_execution_failed` | the structured content of a read-only tool is too large, and cannot be cut |
//! | `not_redactable` | `configuration` | the tool came later, and its output schema constrains strings. Nothing was done |
//!
//! With a redaction, a call of a tool that is in no listing is refused if the tools of its caller cannot be listed.
//!
//! # Cancellation
//!
//! The layer waits for nothing but the call. A caller who leaves during the call has no answer, so nothing is kept.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`] counts what became of answers, and has the number and the bytes of the kept ones. Counter (feature `metrics`):
//! `mcp_patterns_outputs_total` by `tool` and `outcome` (`cut`, `spilled`, `whole`, `too_large`). The answer has its status and its bytes in
//! `_meta["mcp-patterns/output"]`, unless [`without_meta`](OutputTool::without_meta) is set. Events: `an answer above the bounds was passed
//! whole` (warning, at most one in ten seconds), `an answer was cut`, `an answer was kept whole, and its end left out` and others (debug).

mod answer;
mod builder;
mod cut;
mod describe;
mod handle;
mod layer;
mod plan;
mod redaction;
mod resource;
mod schema;
mod sentence;
mod settings;
mod size;
mod spill;
mod store;

pub use builder::OutputTool;
pub use handle::{Handle, Stats};
pub use spill::Spill;

/// The name of the layer in errors.
const LAYER: &str = "OutputTool";

#[cfg(test)]
mod tests;
