//! Calls a tool again after a temporary failure: [`RetryTool`] for whole tool calls, [`RetryPolicy`] inside a tool.
//!
//! Use it where a tool depends on something that fails now and then and is soon back: a service over the network, a database
//! that restarts. It does not help where the failure is the caller's (bad arguments, no permission) or lasts: then it only
//! makes everybody wait. One layer should retry, not three on top of each other; here an outer layer leaves alone what an
//! inner one gave up on.
//!
//! A tool is called twice only if its author says that this does no harm: it is annotated `read_only` or `idempotent`. A
//! failure does not prove that nothing happened, so anything else takes [`RetryTool::allow_repeated_effects`].
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, RetryTool};
//! # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone, Default)]
//! struct Exchange {
//!     requests: Arc<AtomicU32>,
//! }
//!
//! #[server(name = "exchange", version = "1.0.0")]
//! impl Exchange {
//!     /// Reads the rate of a currency.
//!     #[tool(read_only = true)]
//!     async fn rate(&self, currency: String) -> McpResult<String> {
//!         match self.requests.fetch_add(1, Ordering::Relaxed) {
//!             0 | 1 => Err(McpError::unavailable("The exchange is busy")),
//!             _ => Ok(format!("1 EUR = 1.08 {currency}")),
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let server = RetryTool::new().layer(Exchange::default());
//!
//! let answer = server.call_tool("rate", serde_json::json!({"currency": "USD"}), &RequestContext::new()).await?;
//! assert_eq!(answer.first_text(), Some("1 EUR = 1.08 USD"));
//! assert_eq!(answer.meta.unwrap()["mcp-patterns/attempts"], 3);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: a slow service, and what is retried of it
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::retry::Budget;
//! use mcp_patterns::{Layer, RetryTool, outcome::ErrorKind, testing::ScriptedServer};
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let script = ScriptedServer::new("search")
//!     .with_read_only("search", |call| async move {
//!         if call.number == 1 { tokio::time::sleep(Duration::from_secs(60)).await }
//!         Ok(ToolResult::text("found"))
//!     })
//!     .with_plain("publish", |_| async { Err(McpError::unavailable("The press is broken")) });
//!
//! let server = RetryTool::new()
//!     .with_max_attempts(5)
//!     .with_attempt_timeout(Duration::from_secs(2))
//!     .with_deadline(Duration::from_secs(10))
//!     .with_budget(Budget::new().with_ratio(0.2))
//!     .with_temporary(|failure| failure.is_temporary() && failure.kind() != Some(ErrorKind::RateLimited))
//!     .on_retry(|event| eprintln!("{} again after {:?}: {}", event.tool, event.delay, event.failure.message()))
//!     .layer(script.clone());
//!
//! let ctx = RequestContext::new();
//! let found = server.call_tool("search", serde_json::json!({}), &ctx).await?;
//! assert_eq!((found.first_text(), script.calls("search")), (Some("found"), 2));
//!
//! // Neither read-only nor idempotent: called once, whatever happens.
//! let failed = server.call_tool("publish", serde_json::json!({}), &ctx).await?;
//! assert!(failed.is_error());
//! assert_eq!(script.calls("publish"), 1);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: inside a tool
//!
//! A tool that makes several requests should retry the one that failed, not all of them:
//!
//! ```
//! use mcp_patterns::retry::RetryPolicy;
//! use turbomcp::{McpError, McpResult, RequestContext};
//!
//! # struct Server { policy: RetryPolicy, failures: std::sync::atomic::AtomicU32 }
//! impl Server {
//!     async fn fetch_with_retry(&self, url: &str, ctx: &RequestContext) -> McpResult<String> {
//!         self.policy.run(ctx, |_attempt| self.fetch(url)).await
//!     }
//! #   async fn fetch(&self, url: &str) -> McpResult<String> {
//! #       match self.failures.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) {
//! #           0 => Ok(format!("Data from {url}")),
//! #           _ => Err(McpError::unavailable("Temporary failure")),
//! #       }
//! #   }
//! }
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! # let server = Server { policy: RetryPolicy::new(), failures: 2.into() };
//! # let ctx = RequestContext::new();
//! assert_eq!(server.fetch_with_retry("https://example.org", &ctx).await?, "Data from https://example.org");
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! Keep the policy with the server, not in the call: its budget counts over all calls.
//!
//! # Defaults
//!
//! - tools: those annotated `read_only` or `idempotent`, as [the caller is told](crate::guide::catalogues) of them
//! - attempts: 3 in all
//! - delay: 50 ms before the second attempt, twice as long before each further one, at most 20 s; 1 s to begin with where the
//!   failure asks for less load (rate limited, overloaded) and does not say for how long
//! - jitter: full, so anything between nothing and the delay; the upper half of the delay where less load is asked for
//! - `retryAfterMs` in the error's data: waited out in full, and the delay on top; one that goes beyond the deadline, or is a
//!   century or more, means not now: there is no further attempt
//! - deadline: 30 s after the first attempt began, none begins any more; what is running runs on
//! - attempt timeout: none
//! - budget: one retry for ten calls and one per second, up to 100 saved up ([`Budget`]); a caller alone takes half of what is saved
//!   up; identity: [the defaults](crate::Identity#defaults)
//! - temporary: timeout, unavailable, transport, external service, rate limited, server overloaded; not a failure without a
//!   kind, which is what a tool with an error type of its own returns ([`outcome`](crate::outcome))
//!
//! The numbers are those of the [AWS SDKs' standard mode][aws] (attempts, delays, jitter) and of the [Site Reliability
//! Engineering book][sre] (budget). For throttling, full jitter may come back at once, so half of the delay is certain.
//!
//! [aws]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
//! [sre]: https://sre.google/sre-book/handling-overload/
//!
//! # Tools that ask their client
//!
//! An attempt that has sent its client a request (it elicits or samples) is the last one, whatever it comes to: the user has
//! answered already, or still has the question on the screen, and a sample has been paid for. The failure is `exhausted` with
//! `asked`, also where an attempt timeout cut the attempt. The client may call again, and its user then knows why the question
//! comes again.
//!
//! It counts from whatever task of the tool the question comes, and through layers further in. What a client answers without a
//! person is no question: its roots, its capabilities, its protocol version, a ping. Attempts before the question are repeated as
//! any are. So a tool should ask last, or make its requests with a [policy](#example-inside-a-tool) after it has asked.
//! [`RetryTool::allow_repeated_questions`] names tools whose users may be asked once more.
//!
//! A person takes longer than a service: give no attempt timeout to tools that ask (`except`, and a `RetryTool` of their own).
//!
//! # Order
//!
//! Outside: validation, which no retry can help; the cache, whose hits need no retry and whose loads share one; a batch.
//! Inside: the transaction, since what failed to serialize must begin anew. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! The last failure is returned as it came, in its form and with its kind, text and data. Its `_meta` (its data, where it is a
//! protocol error) gains `mcp-patterns/attempts` and `mcp-patterns/exhausted`: why there was no further attempt, one of
//! `attempts`, `deadline` (also where the failing side asked for a century), `budget`, `cancelled` and
//! [`asked`](#tools-that-ask-their-client). A success that took more than one attempt says how many.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A call that is dropped or whose context is cancelled ends its wait (a cancelled one within 50 ms, since turbomcp's token can
//! only be polled) and makes no further attempt. An attempt that is running is the tool's to end, unless an attempt timeout
//! is set. A panic unwinds to the caller; it is not retried.
//!
//! A tool that reports progress starts over in each attempt. What the caller hears goes on from where it was, as the
//! specification demands, and ends with the call.
//!
//! # When the backend fails
//!
//! There is none: the budget is this process's own. While a service fails for everybody, retries add at most a tenth to its
//! load once the saved-up budget is spent; from then on failures are returned at once.
//!
//! While it fails for one caller, others are retried all the same: each has a [share](Budget) of the one budget, so that the total is
//! bounded as before. A [policy inside a tool](#example-inside-a-tool) that is given the call's context does the same.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_retries_total` and `mcp_patterns_retries_exhausted_total`, by `tool`. Events:
//! `retrying` (debug) and `no further attempt` (warn), with `tool`, `attempt` or `attempts`, and the kind or reason.

mod attempts;
mod budget;
mod builder;
mod debts;
mod delays;
mod layer;
mod plan;
mod policy;

pub(crate) use attempts::{ByError, Judge};
pub use attempts::{Retryable, Verdict};
pub use budget::Budget;
pub use builder::{RetryEvent, RetryTool};
pub use delays::Delays;
#[cfg(feature = "backoff")]
pub use delays::from_backoff;
#[cfg(feature = "backon")]
pub use delays::from_backon;
pub use policy::{Jitter, RetryPolicy};

#[cfg(test)]
mod tests;
