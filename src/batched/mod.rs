//! Turns calls that are made at the same time into one: [`BatchedTool`] for whole tool calls, [`Batcher`] inside a tool.
//!
//! A hundred callers become one query, and a caller who is alone waits for nobody: a batch is sent the moment a place for it
//! is free, with what is there. While batches are under way, calls gather for the next one, so batches grow with the load by
//! themselves.
//!
//! Use it where one question for many things costs about as much as one for a single thing: rows by their ids, places by
//! their names, embeddings. A tool gets a bulk function for that ([`with_bulk`](BatchedTool::with_bulk)). Without one, the
//! layer bounds how many calls are under way and makes identical ones once; if that is all, a
//! [`CachedTool`](crate::CachedTool) does more. It does not fit a tool whose calls have nothing in common.
//!
//! It acts only on tools that you name, and each user's calls travel apart.
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = BatchedTool::new().with_bulk("get_user", get_users).layer(Users);
//!
//! let ctx = RequestContext::new();
//! let get = |id| server.call_tool("get_user", serde_json::json!({ "id": id }), &ctx);
//! let (one, two, none) = tokio::join!(get(1), get(2), get(1000));
//! let (one, two) = (one?, two?);
//! assert_eq!((one.first_text(), two.first_text()), (Some("user 1"), Some("user 2")));
//! assert_eq!(one.meta.unwrap()["mcp-patterns/batch"]["size"], 3);
//! assert!(none?.is_error());
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: by shard, everybody's calls together, a bad one found
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::batched::Call;
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{BatchedTool, Layer, Scope};
//! # use futures_util::future::join_all;
//! use serde_json::json;
//! # use turbomcp::{McpError, McpHandler, McpResult, RequestContext, ToolResult};
//!
//! /// One request to the shard, which refuses all of it where one word is bad.
//! async fn translate(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
//!     if calls.iter().any(|call| call.args["word"] == "") {
//!         return Err(McpError::invalid_params("There is an empty word"));
//!     }
//!     Ok(calls.iter().map(|call| Ok(format!("{} in {}", call.args["word"], call.args["to"]))).collect())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let script = ScriptedServer::new("words").with_read_only("translate", |_| async { Ok(ToolResult::text("")) });
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
//! let failed: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.unwrap().is_error()).collect();
//! assert_eq!(failed, [false, true, false]);
//! assert_eq!((handle.stats().sent, handle.stats().batches), (3, 2));
//! # });
//! ```
//!
//! # Defaults
//!
//! - tools: none; give them a bulk function, or name them with [`only`](BatchedTool::only) or [`when`](BatchedTool::when)
//! - 64 calls in a batch, 4 batches under way, no delay
//! - scope: [`Scope::Principal`](crate::Scope::Principal), each user apart, all anonymous callers together; identity: [the
//!   defaults](crate::Identity#defaults)
//! - 1,024 calls may wait; what comes then is refused
//! - a batch is given up after 5 minutes
//! - nothing is sent twice
//! - a server that stops takes 5 seconds to answer what waits
//! - `_meta["mcp-patterns/batch"]`: `{"size": 3}`, how many travelled together
//!
//! # What travels together
//!
//! Calls of the same tool, by callers whom the [scope](BatchedTool::with_scope) does not tell apart, with the same
//! [rights](crate::Identity) unless the scope is public, and with the same [batch
//! key](BatchedTool::with_batch_key). These groups take turns: one with a thousand calls waiting delays the next one by a batch
//! and not by a thousand calls.
//!
//! A full queue takes from the caller who has most in it, in whatever groups: no caller fills it for others. Callers who are not
//! authenticated have a share for each connection.
//!
//! All tools of a layer share its queue and its places. Put a second `BatchedTool` on for tools that must not wait for the
//! others, or need other settings.
//!
//! # Equal calls
//!
//! Calls are equal if they travel together and have the same arguments, in [canonical form](crate::canonical). Of equal calls of a
//! read-only tool, the bulk function gets one, and all who made them get its answer; if it opens the session of a call, it is
//! asked again for those in other sessions. A call of a tool that is not read-only may have an effect each time, so the function
//! gets each of them, and must answer each of them. Rows that come back from a query are one for each id: give each call its
//! own.
//!
//! ```
//! use std::collections::HashMap;
//! use mcp_patterns::batched::Call;
//! # use mcp_patterns::{BatchedTool, Layer, testing::ScriptedServer};
//! # use serde_json::json;
//! # use turbomcp::{McpError, McpHandler, McpResult, RequestContext, ToolResult};
//!
//! # async fn select_names(ids: &[u64]) -> HashMap<u64, String> {
//! #     ids.iter().filter(|id| **id < 100).map(|id| (*id, format!("user {id}"))).collect()
//! # }
//! async fn get_users(calls: Vec<Call>) -> McpResult<Vec<McpResult<String>>> {
//!     let ids: Vec<u64> = calls.iter().filter_map(|call| call.args["id"].as_u64()).collect();
//!     let names = select_names(&ids).await; // one row for each id that there is, in any order
//!     let name = |call: &Call| {
//!         let name = call.args["id"].as_u64().and_then(|id| names.get(&id));
//!         name.cloned().ok_or_else(|| McpError::invalid_params("There is no such user"))
//!     };
//!     Ok(calls.iter().map(name).collect())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let script = ScriptedServer::new("users").with_plain("get_user", |_| async { Ok(ToolResult::text("")) });
//! let server = BatchedTool::new().with_bulk("get_user", get_users).layer(script);
//!
//! let ctx = RequestContext::new();
//! let get = |id| server.call_tool("get_user", json!({ "id": id }), &ctx);
//! let (one, same, none) = tokio::join!(get(1), get(1), get(1000));
//! assert_eq!((one?.first_text(), same?.first_text()), (Some("user 1"), Some("user 1")));
//! assert_eq!(none?.first_text(), Some("There is no such user"));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Without a bulk function
//!
//! Distinct calls are made at the same time, each in a task of its own; [equal ones](#equal-calls) are made once, and all who
//! made them get the answer. So callers share an effect, and a tool whose repeated calls have more than one must be named in
//! [`allow_skipped_effects`](BatchedTool::allow_skipped_effects). Calls of such a tool with different idempotency keys are not
//! equal.
//!
//! # Tools that ask the client
//!
//! A tool without a bulk function that elicits, samples, lists roots, or reads the client's capabilities or protocol version asks the
//! client of the first caller. From that moment its call is no longer shared: the first caller goes on with it, outside the batch, and
//! the others each make a call of their own, which asks their own client. Neither the batch nor the next one waits for a client. If
//! the first caller has left, the question is refused (`cancelled`).
//!
//! A bulk function is never run again for a call that it has answered. It has each caller's own client in the [`Call`]'s context, and
//! only the function knows which of its results depend on which client: each caller gets the result that the function returns, and
//! no layer further out keeps or shares any of them. Those whose [equal call](#equal-calls) it has not seen are not answered by
//! what another's client said: it is asked for each of these calls. So let a result depend on the client of its own call alone,
//! and better ask nobody: the whole batch waits.
//!
//! # Progress and logs
//!
//! Everybody who shares a call hears its progress, on their own connection, by their own token, rising; a caller without a token
//! hears none. Logs (`notifications/message`) go to all who share it. In [`Scope::Public`](crate::Scope::Public), only callers with
//! the first one's identity and rights get logs and the messages of progress. All others get numbers. A bulk function
//! tells each caller of that caller's own call, through the [`Call`]'s context.
//!
//! A slow connection holds up neither the batch nor the other callers. Up to 128 notifications wait for it, then the oldest are
//! dropped, and its own result waits for them for a second at most. Nothing is sent after the result.
//!
//! # Order
//!
//! Outside: the cache, so that only what it does not have travels; validation and whatever decides who may call what. Inside:
//! retries, which then serve all who share a call. A bulk function answers instead of everything inside: it does its own
//! retries, with a [`RetryPolicy`](crate::retry::RetryPolicy), and gets no [arguments of layers](crate::arguments) further in: no
//! idempotency key and no handle. A call that runs inside a transaction does not travel, since the
//! batch would not see the transaction. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A result of the bulk function is its caller's alone, in the form in which a tool fails. The function's own error goes to the
//! whole batch, as does `internal` where it panicked or returned another number of results than it got calls: it is logged as its
//! bug, with both numbers, and a caller reads that the results could not be told apart. `timeout` is for a batch that took too long, `server_overloaded` with `retryAfterMs` for a call that found
//! no room, `unavailable` for one that comes, or is left, when the server stops. Those are results with `isError`.
//!
//! With [`split_failed_batches`](BatchedTool::split_failed_batches), a batch that failed as a whole is tried again in halves,
//! until the calls that cannot succeed are found: up to twice as many calls of the bulk function as there are calls in the
//! batch, one after the other within the time of the batch. This is for tools that are annotated read-only or idempotent. A
//! batch that failed for a [temporary](crate::outcome::Failure::is_temporary) reason is not split, since all its parts would
//! fail alike; nor is one whose function has asked a client, which would be asked again.
//!
//! A failure of a call that was sent more than once, or whose batch was given up, does not prove that the call
//! [was not executed](crate::outcome::Failure::is_not_executed), whatever its kind: its `_meta` has `"outcome": "unknown"` under
//! `mcp-patterns/batch`, for the layers further out.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A batch belongs to none of its callers: it runs in a task of its own, goes on when one of them leaves, and is dropped when
//! the last has left. A caller who leaves before the batch is sent is not in it. A caller whose context is cancelled leaves
//! within 50 ms. Each call comes with the identity and the progress token of its caller, and a cancellation token that fires when
//! its caller has left.
//!
//! Task-locals of the callers do not reach the bulk function, and so there is no session of the scope: it finds that of a call with
//! [`SessionStore::of`](crate::SessionStore::of)`(&call.ctx)`, but none that is named by a handle. Without a bulk function, a tool
//! finds its session, and callers share what it read there only if they are in the same one. Either way, a cache further out
//! learns that a session was opened, also from a batch that failed.
//!
//! There is no worker: a task lives as long as there is something to send. Nobody waits for ever, even if the runtime that ran
//! the batches shuts down.
//!
//! # When the backend fails
//!
//! There is none: calls wait in this process.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`], and by `tool` (feature `metrics`) the histograms `mcp_patterns_batch_size` and
//! `mcp_patterns_batch_wait_seconds`, from the call until its batch was sent, and the gauge `mcp_patterns_batch_queue`. Each
//! batch logs an event (debug) with `tool` and `batch`, its size.

mod answers;
mod batcher;
mod builder;
mod call;
mod dispatch;
mod execute;
mod handle;
mod instruments;
mod layer;
mod own_call;
mod plan;
mod queue;
mod settings;
pub use answers::{Answers, BatchError};
pub use batcher::{Batcher, Stats};
pub use builder::BatchedTool;
pub use handle::Handle;
pub use plan::Call;

#[cfg(test)]
mod tests;
