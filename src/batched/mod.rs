//! Combines calls that arrive at the same time into one: [`BatchedTool`] for whole tool calls, [`Batcher`] inside a tool.
//!
//! A hundred concurrent calls become one query, and a single call is not delayed: a batch is sent as soon as fewer batches than
//! allowed are in flight, with the calls that are waiting then. While batches are in flight, new calls collect for the next one, so
//! the size of a batch grows with the load.
//!
//! Use it where one request for many items costs about as much as a request for one: rows by their ids, places by their names,
//! embeddings. Give the tool a bulk function ([`with_bulk`](BatchedTool::with_bulk)). Without one, the layer limits how many calls
//! are in flight and makes identical calls once; if that is all you need, a [`CachedTool`](crate::CachedTool) does more. Batching does
//! not help a tool whose calls have nothing in common.
//!
//! The layer acts only on tools that you name, and never puts calls of different users into one batch by default.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features testing
//! cargo add turbomcp serde_json futures-util
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Example
//!
//! ```
//! use mcp_patterns::batched::Call;
//! use mcp_patterns::{BatchedTool, Layer};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Users;
//!
//! #[server(name = "users", version = "1.0.0")]
//! impl Users {
//!     /// Reads the name of a user.
//!     #[tool(read_only = true)]
//!     async fn get_user(&self, id: u64) -> McpResult<String> {
//!         Ok(format!("user {id}, asked for alone"))
//!     }
//! }
//!
//! /// Answers all calls with one query: `select id, name from users where id = any($1)`.
//! async fn get_users(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
//!     let name = |call: &Call| match call.args["id"].as_u64() {
//!         Some(id @ 1..100) => Ok(format!("user {id}")),
//!         _ => Err(McpError::invalid_params("There is no such user")),
//!     };
//!     Ok(calls.iter().map(name).collect())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = BatchedTool::new().with_bulk("get_user", get_users).layer(Users);
//!
//! let ctx = RequestContext::new();
//! let get = |id| server.call_tool("get_user", serde_json::json!({ "id": id }), &ctx);
//! let (one, two, none) = tokio::join!(get(1), get(2), get(1000));
//! let (one, two) = (one?, two?);
//! assert_eq!((one.first_text(), two.first_text()), (Some("user 1"), Some("user 2")));
//! // The number of calls in the batch: 3, if all of them arrived before it was sent.
//! assert!(one.meta.unwrap()["mcp-patterns/batch"]["size"].is_u64());
//! assert!(none?.is_error());
//! # Ok(()) }
//! ```
//!
//! # Example: by shard, calls of all users together, one bad call found
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::batched::Call;
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{BatchedTool, Layer, Scope};
//! use futures_util::future::join_all;
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, McpResult, RequestContext, ToolResult};
//!
//! /// One request to the shard, which rejects the whole request if one word is bad.
//! async fn translate(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
//!     if calls.iter().any(|call| call.args["word"] == "") {
//!         return Err(McpError::invalid_params("There is an empty word"));
//!     }
//!     Ok(calls
//!         .iter()
//!         .map(|call| Ok(format!("{} in {}", call.args["word"], call.args["to"])))
//!         .collect())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("words")
//!     .with_read_only("translate", |_| async { Ok(ToolResult::text("")) });
//! let batched = BatchedTool::new()
//!     .with_bulk("translate", translate)
//!     .with_scope(Scope::Public)
//!     .with_batch_key(|call| call.args["to"].to_string())
//!     .with_max_size(100)
//!     .with_max_weight(4096, |call| call.args["word"].as_str().map_or(0, str::len) as u64)
//!     .with_max_delay(Duration::from_millis(1))
//!     .split_failed_batches();
//! let handle = batched.handle();
//! let server = batched.layer(script);
//!
//! let users = ["ada", "bob", "eve"].map(|name| RequestContext::new().with_user_id(name));
//! let words = [("sun", "it"), ("", "it"), ("sea", "fr")];
//! let calls = users.iter().zip(words).map(|(user, (word, to))| {
//!     server.call_tool("translate", json!({"word": word, "to": to}), user)
//! });
//! let failed: Vec<_> =
//!     join_all(calls).await.into_iter().map(|answer| answer.unwrap().is_error()).collect();
//! assert_eq!(failed, [false, true, false]);
//! assert_eq!(handle.stats().sent, 3);
//! assert!(handle.stats().batches >= 2); // one for each language
//! # Ok(()) }
//! ```
//!
//! # Defaults
//!
//! - tools: none; give them a bulk function, or name them with [`only`](BatchedTool::only) or [`when`](BatchedTool::when)
//! - 64 calls in a batch, 4 batches in flight, no delay
//! - scope: [`Scope::Principal`](crate::Scope::Principal), each user apart, all anonymous callers together; identity: [the
//!   defaults](crate::Identity#defaults)
//! - 1,024 calls may wait; further calls are rejected
//! - a batch times out after 5 minutes
//! - no call is sent twice
//! - a server that stops has 5 seconds to answer the calls that wait
//! - `_meta["mcp-patterns/batch"]`: `{"size": 3}`, the number of calls in the batch
//!
//! # Which calls share a batch
//!
//! One batch has calls of the same tool, by callers whom the [scope](BatchedTool::with_scope) does not separate, with the same
//! [rights](crate::Identity) unless the scope is public, and with the same [batch key](BatchedTool::with_batch_key). Such calls are a
//! group. The groups take turns: a group with a thousand waiting calls delays another group by one batch, not by a thousand calls.
//!
//! If the queue is full, the caller with most waiting calls, in all groups together, loses one: no caller can fill the queue for
//! others. Callers who are not authenticated have a share for each connection.
//!
//! All tools of a layer share its queue and its limit of batches in flight. Add a second `BatchedTool` for tools that must not wait
//! for the others, or that need other settings.
//!
//! # Equal calls
//!
//! Calls are equal if they may share a batch and have the same arguments, in [canonical form](crate::canonical). If a tool is
//! read-only, its bulk function gets one of several equal calls, and all their callers get its answer; if the function opens the
//! session of a call, it is called again for the callers in other sessions. If a tool is not read-only, each call may have an effect,
//! so the function gets each of them and must return a result for each. A query returns one row for each id, so map the rows back to
//! the calls:
//!
//! ```
//! use std::collections::HashMap;
//! use mcp_patterns::batched::Call;
//! use mcp_patterns::{BatchedTool, Layer, testing::ScriptedServer};
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, McpResult, RequestContext, ToolResult};
//!
//! async fn select_names(ids: &[u64]) -> HashMap<u64, String> {
//!     ids.iter().filter(|id| **id < 100).map(|id| (*id, format!("user {id}"))).collect()
//! }
//! async fn get_users(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
//!     let ids: Vec<u64> =
//!         calls.iter().filter_map(|call| call.args["id"].as_u64()).collect();
//!     let names = select_names(&ids).await; // one row for each existing id, in any order
//!     let name = |call: &Call| {
//!         let name = call.args["id"].as_u64().and_then(|id| names.get(&id));
//!         name.cloned().ok_or_else(|| McpError::invalid_params("There is no such user"))
//!     };
//!     Ok(calls.iter().map(name).collect())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("users")
//!     .with_plain("get_user", |_| async { Ok(ToolResult::text("")) });
//! let server = BatchedTool::new().with_bulk("get_user", get_users).layer(script);
//!
//! let ctx = RequestContext::new();
//! let get = |id| server.call_tool("get_user", json!({ "id": id }), &ctx);
//! let (one, same, none) = tokio::join!(get(1), get(1), get(1000));
//! assert_eq!((one?.first_text(), same?.first_text()), (Some("user 1"), Some("user 1")));
//! assert_eq!(none?.first_text(), Some("There is no such user"));
//! # Ok(()) }
//! ```
//!
//! # Without a bulk function
//!
//! Different calls are made concurrently, each in its own task; [equal calls](#equal-calls) are made once, and all their callers get
//! the answer. So these callers share one effect, and a tool that is not idempotent must be named in
//! [`allow_skipped_effects`](BatchedTool::allow_skipped_effects). Calls with different idempotency keys are not equal.
//!
//! # Tools that ask the client
//!
//! A tool without a bulk function may elicit, sample, list roots, or read the client's capabilities or protocol version. It then asks
//! the client of the first caller. From that moment the call is no longer shared: the first caller continues it outside the batch, and
//! each other caller makes its own call, which asks its own client. Neither this batch nor the next one waits for a client. If the
//! first caller has left, the question is rejected (`cancelled`).
//!
//! A bulk function is never called again for a call that it has answered. Each [`Call`]'s context has the client of its caller. Only
//! the function knows which of its results depend on which client, so each caller gets the result that the function returned, and no
//! outer layer stores or shares any of them. An [equal call](#equal-calls) that the function has not seen does not get an answer that
//! another caller's client influenced: the function is called for each such call. So let a result depend only on the client of its own
//! call, and better ask no client at all: the whole batch waits for the answer.
//!
//! # Progress and logs
//!
//! Every caller of a shared call gets its progress, on its own connection, with its own token, with rising numbers; a caller without a
//! token gets none. Log messages (`notifications/message`) go to all callers of the call. In [`Scope::Public`](crate::Scope::Public),
//! only callers with the identity and the rights of the first one get log messages and the texts of progress. The others get the
//! numbers. A bulk function reports to each caller through the context of its [`Call`].
//!
//! A slow connection delays neither the batch nor the other callers. Up to 128 notifications wait for it, then the oldest are dropped,
//! and its own result waits for them for at most one second. No notification follows the result.
//!
//! # Order
//!
//! Outside of this layer: the cache, so that only cache misses are batched; validation, and layers that decide who may call which tool.
//! Inside: retries, which then serve all callers of a shared call. A bulk function replaces everything inside: it makes its own
//! retries, with a [`RetryPolicy`](crate::retry::RetryPolicy), and does not get the [arguments of inner layers](crate::arguments): no
//! idempotency key and no session handle. A call inside a transaction is not batched, since the batch would run outside of the
//! transaction. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A result of the bulk function belongs to its caller alone, in the form in which a tool fails. An error of the function as a whole
//! goes to all calls of the batch. So does `internal` if the function panicked or returned a wrong number of results: the log
//! reports both numbers as a bug of the function, and the callers read that the results could not be assigned. Further errors:
//! `timeout` for a batch that took too long, `server_overloaded` with `retryAfterMs` for a call that found the queue full,
//! `unavailable` for a call that arrives, or still waits, when the server stops. They are results with `isError`.
//!
//! With [`split_failed_batches`](BatchedTool::split_failed_batches), a batch that failed as a whole is tried again in halves, until
//! the calls that cannot succeed are found. This takes up to twice as many calls of the bulk function as the batch has calls, one after
//! the other, within the timeout of the batch. It applies to tools that are annotated read-only or idempotent. A batch that failed for
//! a [temporary](crate::outcome::Failure::is_temporary) reason is not split, since all its parts would fail too; nor is a batch whose
//! function has asked a client, because it would ask again.
//!
//! If a call was sent more than once, or its batch timed out or was abandoned, its failure does not prove that the call
//! [was not executed](crate::outcome::Failure::is_not_executed), whatever its kind: `_meta` has `"outcome": "unknown"` under
//! `mcp-patterns/batch`, for outer layers.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A batch runs in its own task and belongs to none of its callers: it continues when one caller leaves, and is dropped when the last
//! one has left. A caller who leaves before the batch is sent is not in it. A caller whose context is cancelled leaves within 50 ms.
//! Each call has the identity and the progress token of its caller, and a cancellation token that fires when its caller has left.
//!
//! Task-locals of the callers do not reach the bulk function, so no session is in scope there: get the session of a call with
//! [`SessionStore::of`](crate::SessionStore::of)`(&call.ctx)`. A session that is named by a handle is not available. Without a bulk
//! function, a tool finds its session, and callers share what it read there only if they are in the same session. In both cases, a
//! cache outside learns that a session was opened, also from a batch that failed.
//!
//! There is no permanent worker: a task runs only while there are calls to send. No caller waits forever, even if the runtime that ran
//! the batches shuts down.
//!
//! # When the backend fails
//!
//! There is no backend: calls wait in this process.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`], and by `tool` (feature `metrics`) the histograms `mcp_patterns_batch_size` and `mcp_patterns_batch_wait_seconds`,
//! from the call until its batch was sent, and the gauge `mcp_patterns_batch_queue`. Each batch logs an event (debug) with `tool` and
//! `batch`, its size.

mod batcher;
mod builder;
mod call;
mod describe;
mod dispatch;
mod error;
mod execute;
mod handle;
mod instruments;
mod layer;
mod plan;
mod queue;
mod results;
mod settings;
mod unshared;
pub use batcher::{Batcher, Stats};
pub use builder::BatchedTool;
pub use error::BatchError;
pub use handle::Handle;
pub use plan::Call;
pub use results::IntoResults;

#[cfg(test)]
mod tests;
