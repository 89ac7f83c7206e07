//! Refuses calls of tools whose backend fails, and tries it again after a pause: [`BreakerTool`].
//!
//! Use it for tools that call a service which may be down: without it, each caller waits for a timeout, each attempt of a retry adds load to
//! a service that has none to spare, and calls pile up. While the breaker of a tool is open, its calls are refused at once. After a pause, one
//! call is let through as a probe. If it succeeds, the breaker closes.
//!
//! Each process has its own breakers: behind `n` replicas, a service that fails gets `n` times as many calls before all of them are open.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features testing
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread,time
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::breaker::State;
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{BreakerTool, Layer, outcome};
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The service behind the tool is down for its first five calls.
//! let script = ScriptedServer::new("bank").with_read_only("get_rate", |call| async move {
//!     match call.number {
//!         ..=5 => Err(McpError::unavailable("The service does not answer")),
//!         _ => Ok(ToolResult::text("1.08")),
//!     }
//! });
//! let pause = Duration::from_millis(300);
//! let breaker = BreakerTool::new().with_pause(pause);
//! let handle = breaker.handle();
//! let server = breaker.layer(script.clone());
//!
//! // Five calls reach the service. The sixth is refused at once.
//! let ctx = RequestContext::new();
//! for _ in 0..5 {
//!     server.call_tool("get_rate", json!({}), &ctx).await?;
//! }
//! let refused = server.call_tool("get_rate", json!({}), &ctx).await;
//! let failure = outcome::failure(&refused).expect("the breaker is open");
//! assert_eq!(failure.kind(), Some(outcome::ErrorKind::Unavailable));
//! assert!(failure.retry_after().is_some_and(|wait| wait <= pause));
//! assert_eq!(script.calls("get_rate"), 5);
//! assert_eq!(handle.breaker("get_rate").unwrap().state, State::Open);
//!
//! // After the pause, the next call is a probe. It succeeds, and the breaker closes.
//! tokio::time::sleep(pause).await;
//! let rate = server.call_tool("get_rate", json!({}), &ctx).await?;
//! assert_eq!(rate.first_text(), Some("1.08"));
//! assert_eq!(handle.breaker("get_rate").unwrap().state, State::Closed);
//! # Ok(()) }
//! ```
//!
//! # Example: tools that have one backend, and calls that are too slow
//!
//! Each tool has a breaker of its own. A group has one for all of its tools. Each layer has one set of settings: tools with others have a
//! layer of their own.
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::breaker::Window;
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{BreakerTool, Layer, LimitedTool};
//! use serde_json::json;
//! use turbomcp::{McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("library")
//!     .with_read_only("search", |_| async { Ok(ToolResult::text("found")) })
//!     .with_read_only("get_book", |_| async { Ok(ToolResult::text("a book")) })
//!     .with_plain("lend", |_| async { Ok(ToolResult::text("lent")) });
//!
//! let breaker = BreakerTool::new()
//!     .with_group("catalogue", ["search", "get_book"])
//!     // Half of the calls of the last 30 seconds, if they are at least 20.
//!     .with_window(Window::time(Duration::from_secs(30)))
//!     .with_min_calls(20)
//!     .with_slow_calls(Duration::from_secs(3))
//!     .with_probes(2);
//! let handle = breaker.handle();
//! // The timeout is inside: a call that it ends counts as a failure.
//! let timeout = LimitedTool::new().with_timeout(Duration::from_secs(10));
//! let server = (breaker, timeout).layer(script);
//!
//! let names: Vec<_> = handle.breakers().into_iter().map(|breaker| breaker.name).collect();
//! assert_eq!(names, ["catalogue", "lend"]);
//! let found = server.call_tool("search", json!({}), &RequestContext::new()).await?;
//! assert_eq!(found.first_text(), Some("found"));
//! # Ok(()) }
//! ```
//!
//! # Example: switch a tool off
//!
//! ```
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{BreakerTool, Layer};
//! use serde_json::json;
//! use turbomcp::{McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("bank")
//!     .with_plain("pay", |_| async { Ok(ToolResult::text("paid")) });
//! let breaker = BreakerTool::new();
//! let handle = breaker.handle();
//! let server = breaker.layer(script);
//!
//! assert!(handle.force_open("pay"));
//! let refused = server.call_tool("pay", json!({}), &RequestContext::new()).await?;
//! assert_eq!(refused.first_text(), Some("`pay` is switched off for now. Nothing was done"));
//!
//! assert!(handle.release("pay"));
//! let paid = server.call_tool("pay", json!({}), &RequestContext::new()).await?;
//! assert_eq!(paid.first_text(), Some("paid"));
//! # Ok(()) }
//! ```
//!
//! # What counts
//!
//! A breaker counts what says something about the backend of its tool:
//!
//! | a call that | counts as | because |
//! | --- | --- | --- |
//! | succeeds | success | |
//! | fails with `unavailable`, `timeout`, `transport`, `external_service`, `server_overloaded`, `rate_limited` | failure | these kinds are [temporary](crate::outcome::Failure::is_temporary): the service is down, too slow or has too much to do, and a pause helps |
//! | runs longer than [`with_slow_calls`](BreakerTool::with_slow_calls), whatever its result, also if its caller leaves then | failure | a service that hangs gives no error |
//! | is ended by a [timeout](crate::LimitedTool::with_timeout) further in | failure | the same |
//! | fails with any other kind, or without one | nothing | the failure is about this call: its arguments, its caller, its target. `internal` is a bug, and no pause helps |
//! | is refused further in: by a limit, another breaker, a full queue, or because a call with its key runs | nothing | the backend was not asked |
//! | is cancelled, or whose caller leaves | nothing | it has no result |
//! | panics | nothing | a panic is a bug |
//! | has sent its client a request, and then is slow or ends with `timeout` or `transport` | nothing | the client may be the one that does not answer |
//! | has [no answer yet](crate::outcome::Unfinished) | nothing | |
//!
//! [`failure_if`](BreakerTool::failure_if) replaces the kinds: `failure_if(|failure| failure.is_temporary() || failure.kind() ==
//! Some(ErrorKind::Internal))` for a tool that reports its database as `internal`.
//!
//! A breaker opens when a failure makes the share of failures in its window reach the [rate](BreakerTool::with_failure_rate), and the window
//! has [enough calls](BreakerTool::with_min_calls). A call that began before the breaker changed its state changes nothing when it ends.
//!
//! # Whose failures count
//!
//! One caller whose calls fail, perhaps because of their arguments, does not open a breaker for all. A breaker opens only if it would also open
//! without the calls of any one principal. Where the other principals have made fewer calls than
//! [`with_min_calls`](BreakerTool::with_min_calls), it opens unless one of them has succeeded within ten seconds, or within the window of time.
//! So the only caller of a local server opens it alone.
//!
//! [`Identity`](crate::Identity) distinguishes principals by subject, issuer and tenant. All anonymous callers are one principal: however many
//! connections one of them opens, a user who succeeds keeps the breaker closed. On a server whose callers are all anonymous, distinguish them
//! [by their sessions](crate::Identity::with_anonymous_by_session).
//!
//! The memory of a breaker is bounded by its window, whatever the number of principals. Calls of tools that are in no listing count for one
//! breaker, `(not listed)`, since a client can make up their names.
//!
//! # Half open
//!
//! After the pause, as many calls are let through as there are [probes](BreakerTool::with_probes), and no more. All of them have to succeed; then
//! the breaker closes, with an empty window. The first that fails opens it for another pause. A probe that counts as nothing gives its place to
//! the next call. A probe that has no result after a pause does not keep others out: further calls get the places, and its result counts
//! when it comes.
//!
//! # Defaults
//!
//! - tools: every tool, each with a breaker of its own
//! - window: the last 20 calls; at least 5 of them; failure rate: 0.5
//! - slow calls: none; pause: 5 seconds; probes: one
//! - failures that count: the temporary ones
//! - principals: [the defaults](crate::Identity#defaults)
//! - `_meta` is written
//!
//! # Order
//!
//! A breaker belongs inside the retries: it then counts each attempt, and an open breaker ends them. It belongs inside the cache, which
//! answers while the breaker is open; with [`with_stale_if_error`](crate::CachedTool::with_stale_if_error) also with older answers. It belongs
//! outside of limits, idempotency keys and transactions: a refused call then uses nothing of a rate, takes no key and no transaction, and the
//! breaker sees the timeout of a limit. See [the guide](crate::guide::ordering).
//!
//! An [attempt timeout](crate::RetryTool::with_attempt_timeout) of the retries ends an attempt from outside: the breaker sees that its caller has
//! left, which counts as nothing. So set [`with_slow_calls`](BreakerTool::with_slow_calls), or a timeout further in.
//!
//! # Errors
//!
//! A refusal is a result with `isError` and the kind `unavailable`. Nothing was done. Its data has one word in `mcp-patterns/breaker`:
//!
//! | word | when | `retryAfterMs` |
//! | --- | --- | --- |
//! | `open` | the breaker is open | the time until the next probe |
//! | `half_open` | all probes run | the time until the next probe, if they do not end before |
//! | `forced_open` | a handle has forced the breaker open | none |
//!
//! `_meta` has `mcp-patterns/exhausted: "breaker"`: no [`RetryTool`](crate::RetryTool) further out waits for a refusal.
//!
//! # Cancellation
//!
//! A refusal never waits. A caller who leaves gives the place of a probe back at once; a call that is cancelled gives it back when its tool
//! ends it.
//!
//! # What is counted and logged
//!
//! [`Handle::breakers`] has the state of each breaker, the calls in its window, and its last changes with their reasons. [`Handle::stats`] counts
//! calls. A result whose call was a probe, or has changed the state, has `mcp-patterns/breaker` in its `_meta`: `{"state": "half_open"}`, or
//! `{"state": "open", "reason": "failures"}`.
//!
//! Counters (feature `metrics`): `mcp_patterns_breaker_changes_total` by `breaker`, `to` and `reason`, and
//! `mcp_patterns_breaker_refusals_total` by `tool`; a gauge: `mcp_patterns_breaker_refusing` by `breaker`, 1 while it refuses calls. Events:
//! `a breaker has opened` (warn), `a breaker has closed` (info), `the state of a breaker was set` (info), `a breaker is half open` and `a call
//! was refused by its breaker` (debug).

mod breakers;
mod builder;
mod describe;
mod handle;
mod layer;
mod plan;
mod refusal;
mod result;

pub use builder::BreakerTool;
pub use handle::{Handle, Stats, Status, Transition};

pub use crate::circuit::{Reason, State, Window};

/// The name of the layer in errors.
const LAYER: &str = "BreakerTool";

#[cfg(test)]
mod tests;
