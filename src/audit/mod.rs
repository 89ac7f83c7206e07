//! Records each call with its end: [`AuditTool`].
//!
//! Use it to answer later who called which tool, when, and what came of it: one event for each call, as the caller saw its end. A call that a
//! cache answered has one, as well as a call that was refused, that timed out, whose caller has left, or that panicked.
//!
//! It records calls of tools. Reads of resources and prompts are not recorded.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features sqlite,testing
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread,io-std
//! cargo add sqlx@0.9 --no-default-features --features runtime-tokio,sqlite-bundled
//! ```
//!
//! # Example
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use mcp_patterns::audit::{End, Event};
//! use mcp_patterns::limited::{Per, Rate};
//! use mcp_patterns::{AuditTool, Layer, LimitedTool};
//! use serde_json::json;
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Maps;
//!
//! #[server(name = "maps", version = "1.0.0")]
//! impl Maps {
//!     /// Finds a route.
//!     #[tool(read_only = true)]
//!     async fn route(&self, to: String, note: String) -> McpResult<String> {
//!         Ok(format!("The way to {to}, {note}"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let events: Arc<Mutex<Vec<Event>>> = Arc::default();
//! let sink = Arc::clone(&events);
//! let audit = AuditTool::new()
//!     .with_arguments("route", ["/to"])
//!     .with_sink(move |event| sink.lock().unwrap().push(event.clone()));
//! // The outermost: also what the other layers refuse is recorded.
//! let limit = LimitedTool::new().with_rate(Per::Principal, Rate::per_hour(1));
//! let server = (audit, limit).layer(Maps);
//!
//! let ada = RequestContext::new().with_user_id("ada");
//! let args = json!({"to": "Rome", "note": "a secret"});
//! for _ in 0..2 {
//!     server.call_tool("route", args.clone(), &ada).await?;
//! }
//!
//! let events = events.lock().unwrap();
//! let [answered, refused] = &events[..] else { panic!("one for each call") };
//! assert_eq!((answered.tool.as_str(), answered.end), ("route", End::Answered));
//! assert_eq!(answered.principal.as_ref().unwrap().subject.as_deref(), Some("ada"));
//! assert_eq!(answered.arguments, Some(json!({"/to": "Rome"})));
//! assert_eq!(refused.end, End::Refused);
//! assert_eq!(
//!     (refused.layer.as_deref(), refused.reason.as_deref()),
//!     (Some("limit"), Some("rate"))
//! );
//! # Ok(()) }
//! ```
//!
//! # Example: JSON lines on stderr, and a table
//!
//! ```
//! use mcp_patterns::audit::{Buffered, JsonLines, SqlTable};
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{AuditTool, Layer};
//! use serde_json::json;
//! use sqlx::SqlitePool;
//! use turbomcp::{McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SqlitePool::connect("sqlite::memory:").await?;
//! SqlTable::ensure_schema(&pool).await?;
//! let audit = AuditTool::new()
//!     .with_buffer(Buffered::new(JsonLines::new(tokio::io::stderr())))
//!     .with_buffer(Buffered::new(SqlTable::new(&pool)).with_capacity(50_000));
//! let handle = audit.handle();
//! let script = ScriptedServer::new("shop")
//!     .with_plain("order", |_| async { Ok(ToolResult::text("ordered")) });
//! let server = audit.layer(script);
//! server.call_tool("order", json!({}), &RequestContext::new()).await?;
//!
//! handle.flush().await;
//! let (tool, ended): (String, String) =
//!     sqlx::query_as("select tool, ended from mcp_patterns_audit").fetch_one(&pool).await?;
//! assert_eq!((tool.as_str(), ended.as_str()), ("order", "answered"));
//! assert_eq!((handle.stats().events, handle.stats().lost), (1, 0));
//! # Ok(()) }
//! ```
//!
//! # Events
//!
//! The fields of an [`Event`], by their names in JSON. A field without a value is left out.
//!
//! | field | value |
//! | --- | --- |
//! | `id` | a UUID of version 7 |
//! | `time` | when the call began: RFC 3339, in UTC and milliseconds |
//! | `duration_ms` | how long it took |
//! | `tool` | the tool, by the name that the caller used |
//! | `end` | see the next table |
//! | `layer`, `reason` | the layer that refused the call, ended it, or had kept its failure, and why: the name and the word of its [mark](crate::guide::tracing#marks-in-results-and-errors) |
//! | `kind` | the kind of a failure, such as `rate_limited` |
//! | `attempts` | how often a `RetryTool` called the tool, if more than once |
//! | `principal` | `subject`, `issuer`, `tenant` (its claims) and `partition` as the [`Identity`](crate::Identity) has them; or their `hash` |
//! | `session` | the SHA-256 of the transport's session id |
//! | `request_id` | the id of the request |
//! | `trace_id` | of the `traceparent` in the request's `_meta` (a server of rmcp) or in the header of HTTP |
//! | `arguments` | by their JSON pointers; or what the redaction returned |
//! | `arguments_omitted` | `true` if the arguments were too large |
//! | `argument_bytes`, `answer_bytes` | sizes as JSON; `answer_bytes` only with a result |
//!
//! | end | when |
//! | --- | --- |
//! | `answered` | the tool answered |
//! | `hit`, `stale` | a cache answered; the answer was fresh, or expired |
//! | `replayed` | the answer of an earlier call with the same idempotency key |
//! | `unfinished` | the client must answer a question first (`reason` is `input_required`), or a task continues the call (`task`) |
//! | `refused` | a layer refused the call, or what its tool asked a layer for, such as a session; nothing was done |
//! | `failed` | the call failed, with the `kind`; also a refusal by the tool itself, and by a layer after an earlier attempt |
//! | `cancelled` | the call ended because the caller cancelled it. A tool that answers all the same has `answered` |
//! | `timed_out` | a layer did not wait any longer. A timeout of the tool itself is `failed`, with the kind `timeout` |
//! | `left` | the call was dropped before its end: the caller has left, or a layer further out has dropped it |
//! | `panicked` | the call panicked. The panic goes on |
//!
//! The end is read from the marks in the answer. A layer inside with `without_meta()` leaves fewer of them: then a hit or a replay is
//! `answered`. Failures and refusals are marked in any case. A server that is not yours can set marks, too: put an
//! [`UntrustedServer`](crate::UntrustedServer) around it.
//!
//! # What is personal or secret
//!
//! - **Principals** are recorded by name, since an audit has to say who did what. With
//!   [`with_hashed_principals`](AuditTool::with_hashed_principals), only who has the key can tell whose event it is.
//! - **Sessions** are always hashed: whoever has the id of a session can use it.
//! - **Arguments** are not recorded, unless you list them ([`with_arguments`](AuditTool::with_arguments)) or return what may be recorded
//!   ([`with_redaction`](AuditTool::with_redaction)). Idempotency keys and session handles are arguments that layers add. They are secrets of
//!   the caller: they are not recorded, and the redaction does not receive them. Nothing is recorded of the arguments of a tool that is in
//!   no listing.
//! - **Answers** are never recorded, nor is the text of an error.
//!
//! # Sinks
//!
//! Each sink gets each event.
//!
//! | sink | receives an event | loses it |
//! | --- | --- | --- |
//! | [`with_sink`](AuditTool::with_sink): a function | before the caller gets the answer | if the function panics |
//! | [`with_tracing`](AuditTool::with_tracing) | the same | as the subscriber does |
//! | [`with_buffer`](AuditTool::with_buffer): a [`Buffered`] with [`JsonLines`], a [`SqlTable`] or a [`Destination`] of your own | after the call, at least once | if the buffer is full, and when the process ends |
//!
//! A buffer delivers an event at least once: after a failure, a batch is written again, with the same ids. In the [`SqlTable`] each event has
//! one row. A destination that is down for long fills the buffer. From then on each new event is lost, and counted in
//! [`Handle::stats`] and `mcp_patterns_audit_lost_total`, until the destination works again.
//!
//! When the server stops, the layer waits for the buffers, for at most 10 seconds. A server that runs over rmcp, or whose process is ended, does
//! not tell the layer: call [`Handle::flush`] after it.
//!
//! # Defaults
//!
//! - tools: every tool
//! - sinks: none. A layer without any is a [`ConfigError`](crate::ConfigError)
//! - principals: by name; identity: [the defaults](crate::Identity#defaults)
//! - arguments: none; at most 4 KiB for each event
//! - buffer: 10,000 events; no call waits for room
//!
//! # Order
//!
//! Outermost. A layer further out that ends a call (a cache, a limit, the validation) hides it from the audit. See
//! [the guide](crate::guide::ordering).
//!
//! # Cancellation and panics
//!
//! A call that is dropped has its event at once, in the drop, and waits for nothing. A panic of the call is recorded and goes on. A future
//! that was never polled is no call.
//!
//! # Cost
//!
//! A call that the layer does not act on costs nothing. The sizes are counted by writing the arguments and the answer as JSON to nowhere,
//! without an allocation, in a time that grows with them.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`] counts events and losses, [`Buffered::stats`] those of one buffer. Counter (feature `metrics`):
//! `mcp_patterns_audit_lost_total` by `sink`: `function`, `json_lines`, `sql` or the name of your destination. Events:
//! `an audit event is lost` (warn), `audit events cannot be written` (warn), `audit events are written again` (info),
//! `the server stops before its audit events are written` (error); with `with_tracing`, `a call ended` (info).

mod arguments;
mod buffered;
mod builder;
mod describe;
mod destination;
mod end;
mod event;
mod handle;
mod json_lines;
mod layer;
mod losses;
mod outputs;
mod plan;
mod principal;
mod queue;
mod recording;
mod settings;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod text;
mod trace_id;

pub use buffered::{BufferStats, Buffered};
pub use builder::AuditTool;
pub use destination::{Destination, DestinationError};
pub use end::End;
pub use event::{Event, Principal};
pub use handle::{Handle, Stats};
pub use json_lines::JsonLines;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use sql::{AUDIT_SCHEMA, AuditDatabase, SqlTable};

/// The name of the layer in errors.
const LAYER: &str = "AuditTool";

#[cfg(test)]
#[cfg(feature = "full")]
mod tests;
