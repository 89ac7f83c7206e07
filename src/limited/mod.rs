//! Limits the time, the number and the rate of calls: [`LimitedTool`].
//!
//! Use it so that one caller, or all together, cannot take more of a server than it can bear: a tool that costs money per call, a service
//! behind a tool with a quota, a database with few connections. A call above a limit is refused before it begins, with the time after
//! which it may be made again. A call that runs for too long is ended.
//!
//! The limits are those of one process, unless [several processes](#several-processes) share them.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features redis,testing
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread,time
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::limited::{Concurrency, Per, Rate};
//! use mcp_patterns::{Layer, LimitedTool, outcome};
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
//!     async fn route(&self, to: String) -> McpResult<String> {
//!         Ok(format!("The way to {to}"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = LimitedTool::new()
//!     .with_timeout(Duration::from_secs(10))
//!     .with_rate(Per::Principal, Rate::per_minute(60).with_burst(2))
//!     .with_concurrency(Per::Tool, Concurrency::new(8).with_queue(32));
//! let server = limits.layer(Maps);
//!
//! let ada = RequestContext::new().with_user_id("ada");
//! for _ in 0..2 {
//!     let answer = server.call_tool("route", json!({"to": "Rome"}), &ada).await?;
//!     assert_eq!(answer.first_text(), Some("The way to Rome"));
//! }
//! let refused = server.call_tool("route", json!({"to": "Rome"}), &ada).await;
//! let failure = outcome::failure(&refused).expect("the third within a second");
//! assert_eq!(failure.kind(), Some(outcome::ErrorKind::RateLimited));
//! assert!(failure.retry_after() <= Some(Duration::from_secs(1)));
//!
//! // Another user has a rate of their own.
//! let bob = RequestContext::new().with_user_id("bob");
//! let answer = server.call_tool("route", json!({"to": "Rome"}), &bob).await?;
//! assert!(!answer.is_error());
//! # Ok(()) }
//! ```
//!
//! # Example: other limits for some tools, and calls that cost more
//!
//! Each layer has one set of limits for its tools. Tools with limits of their own have a layer of their own:
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::limited::{Per, Rate};
//! use mcp_patterns::testing::ScriptedServer;
//! use mcp_patterns::{Layer, LimitedTool};
//! use serde_json::json;
//! use turbomcp::{McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("reports")
//!     .with_read_only("search", |_| async { Ok(ToolResult::text("found")) })
//!     .with_plain("render", |_| async { Ok(ToolResult::text("rendered")) });
//!
//! let server = (
//!     LimitedTool::new().with_timeout(Duration::from_secs(5)).except(["render"]),
//!     LimitedTool::new()
//!         .only(["render"])
//!         .with_timeout(Duration::from_secs(120))
//!         // A hundred pages per hour.
//!         .with_rate(Per::Principal, Rate::per_hour(100))
//!         .with_cost_by("render", |args| {
//!             args["pages"].as_u64().and_then(|pages| pages.try_into().ok()).unwrap_or(1)
//!         }),
//! )
//!     .layer(script);
//!
//! let ctx = RequestContext::new();
//! let render = |pages: u32| server.call_tool("render", json!({"pages": pages}), &ctx);
//! assert!(!render(80).await?.is_error());
//! assert!(render(30).await?.is_error(), "only twenty pages are left");
//! assert!(!render(20).await?.is_error());
//! # Ok(()) }
//! ```
//!
//! # Whose calls count together
//!
//! | limit | counts | protects |
//! | --- | --- | --- |
//! | [`Per::Tool`] | all calls of a tool | what is behind the tool |
//! | [`Per::Principal`] | all calls of a principal, of any tool of the layer | the other principals |
//! | [`Per::PrincipalAndTool`] | the calls that a principal makes of one tool | both |
//!
//! All limits that are set hold together. A call that one of them refuses counts for none of them.
//!
//! [`Identity`](crate::Identity) distinguishes principals by subject, issuer and tenant. All anonymous callers are one principal, unless
//! their [sessions](crate::Identity::with_anonymous_by_session) distinguish them, and so are all callers whose credentials nobody has
//! read. Calls of tools that are in no listing count as calls of one tool, since a client can make up their names.
//!
//! A tool or a principal has an entry in a table while it is limited, or runs a call. If the table is full
//! ([`with_max_principals`](LimitedTool::with_max_principals)), the others leave it. If it is still full, newcomers share one entry, with
//! the limits of one principal: a flood of new principals takes no memory, and frees nobody who is limited.
//!
//! # Several processes
//!
//! | | rate | concurrency |
//! | --- | --- | --- |
//! | by default | of each process | of each process |
//! | [`with_replicas(n)`](LimitedTool::with_replicas) | each process lets the n-th part through | each process has the n-th part of the places |
//! | and `with_backend`, with a `RedisBackend` (feature `redis`) | counted in Redis for all processes together | each process has the n-th part of the places |
//!
//! ```no_run
//! use mcp_patterns::limited::{Per, Rate, RedisBackend};
//! use mcp_patterns::{LimitedTool, RedisConnection};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
//! let limits = LimitedTool::new()
//!     .with_rate(Per::Principal, Rate::per_minute(60))
//!     .with_backend(RedisBackend::new(redis))
//!     .with_replicas(3);
//! # Ok(()) }
//! ```
//!
//! A call that may pass asks Redis once, right before it begins. A caller who is known to be limited is refused without a question. No call
//! fails because of Redis: while it does not answer, each process lets its part of the rate through, and begins where Redis was. So all
//! processes together let no more through than with Redis, but for calls that came to other processes since a process asked last. Two costs
//! of this: a caller who comes to one process only gets its part of the rate, and a process that alone loses Redis adds its part to what the
//! others let through. A caller who leaves while Redis is asked has used the rate.
//!
//! # A limit that follows the load
//!
//! [`Concurrency::with_adaptive_limit`] finds out how many calls a service can bear: the limit rises slowly while calls succeed, and falls
//! fast when they fail temporarily, time out or become [slow](Concurrency::with_slow_after). [`Handle::concurrency`] shows it.
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::LimitedTool;
//! use mcp_patterns::limited::{Concurrency, Per};
//!
//! let concurrency = Concurrency::new(20)
//!     .with_adaptive_limit(2, 100)
//!     .with_slow_after(Duration::from_secs(5))
//!     .with_queue(100);
//! let limits = LimitedTool::new()
//!     .with_timeout(Duration::from_secs(30))
//!     .with_concurrency(Per::Tool, concurrency);
//! ```
//!
//! # Defaults
//!
//! - tools: every tool
//! - timeout, rates and concurrency: none. A layer without any is a [`ConfigError`](crate::ConfigError)
//! - processes that share the limits: one; backend: none
//! - burst of a rate: the calls of one period
//! - queue of a concurrency: none; longest wait in it: 10 seconds
//! - cost of a call: one
//! - entries: 10,000 for each way to count; identity: [the defaults](crate::Identity#defaults)
//!
//! # Order
//!
//! A limit per tool belongs inside the cache, the batches and the retries: a hit costs nothing, and a retry waits as long as the refusal
//! says. It belongs outside of idempotency keys and transactions: a refused call then takes no key and no transaction.
//!
//! A limit per principal belongs outside of the cache and the batches where their answers are shared between principals (`Scope::Public`):
//! inside, the call that others wait for is that of one principal, and its refusal would be theirs. There, hits count, too. Two layers in one
//! stack are usual. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A refusal is a result with `isError`. Its data has one word in `mcp-patterns/limit`, and nothing was done:
//!
//! | word | kind | when |
//! | --- | --- | --- |
//! | `rate` | `rate_limited` | above a rate. `retryAfterMs` is the time after which the same call passes all rates, unless others come first |
//! | `busy` | `server_overloaded` for a tool, `rate_limited` for a principal | too many calls run, and the queue is full |
//! | `waited` | the same | the call has waited in the queue as long as it may |
//! | `cancelled` | `cancelled` | the caller has cancelled the call while it waited |
//!
//! A call that is ended after its timeout has the kind `timeout` and the word `timed_out`. The error of a tool that is not read-only says
//! that it may have taken effect: no layer takes it for a call that did nothing.
//!
//! The time in which a tool waits for an answer of its client counts, and a person takes longer than a service: leave tools that ask out
//! (`except`), and give them a layer of their own.
//!
//! A rate refuses a call with a cost above its burst until nothing of the rate is used. Then the call passes, and the next one waits for all
//! of its cost.
//!
//! # Cancellation
//!
//! A caller who leaves gives its place back at once, in the queue and while its call runs. A call that leaves before it begins uses nothing
//! of a rate. A cancelled call leaves the queue within 50 ms; a running one ends when the tool ends it, or after the timeout.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`] counts the calls that were let through, refused and ended, and the questions that Redis did not answer. Counters
//! (feature `metrics`): `mcp_patterns_limit_refusals_total` by `tool` and `reason` (`rate`, `concurrency`),
//! `mcp_patterns_limit_timeouts_total` by `tool`, and `mcp_patterns_limit_backend_failures_total`. Events: `a call was refused` and `a call
//! was ended after its timeout` (debug), and a warning and its end while Redis does not answer.

mod adaptive;
mod builder;
mod concurrency;
mod describe;
mod handle;
mod layer;
mod limit;
mod limits;
mod plan;
mod rate;
#[cfg(feature = "redis")]
mod redis;
mod refusal;
#[cfg(feature = "redis")]
mod shared;
mod table;

pub use builder::LimitedTool;
pub use concurrency::{Concurrency, InUse};
pub use handle::{Handle, Stats};
pub use limit::Per;
pub use rate::Rate;
#[cfg(feature = "redis")]
pub use redis::RedisBackend;

/// The name of the layer in errors.
const LAYER: &str = "LimitedTool";

#[cfg(test)]
mod tests;
