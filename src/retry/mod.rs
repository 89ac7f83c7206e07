//! Calls a tool again after a temporary failure: [`RetryTool`] for whole tool calls, [`RetryPolicy`] inside a tool.
//!
//! Use it if a tool depends on something that fails now and then and recovers soon: a service over the network, a database that
//! restarts. It does not help with a failure that the caller caused (bad arguments, no permission), or with one that lasts: then it
//! only makes callers wait. Only one layer should retry, not three nested ones; this layer does not retry a failure that an inner
//! layer gave up on.
//!
//! A tool is called twice only if its author declares that this is safe: it is annotated `read_only` or `idempotent`. A failure does
//! not prove that nothing happened, so every other tool needs [`RetryTool::allow_repeated_effects`].
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
//! use mcp_patterns::{Layer, RetryTool};
//! use std::sync::{
//!     Arc,
//!     atomic::{AtomicU32, Ordering},
//! };
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
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = RetryTool::new().layer(Exchange::default());
//!
//! let answer = server
//!     .call_tool("rate", serde_json::json!({"currency": "USD"}), &RequestContext::new())
//!     .await?;
//! assert_eq!(answer.first_text(), Some("1 EUR = 1.08 USD"));
//! assert_eq!(answer.meta.unwrap()["mcp-patterns/attempts"], 3);
//! # Ok(()) }
//! ```
//!
//! # Example: a slow service, and which tools are retried
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::retry::Budget;
//! use mcp_patterns::{Layer, RetryTool, outcome::ErrorKind, testing::ScriptedServer};
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("search")
//!     .with_read_only("search", |call| async move {
//!         if call.number == 1 {
//!             tokio::time::sleep(Duration::from_secs(60)).await
//!         }
//!         Ok(ToolResult::text("found"))
//!     })
//!     .with_plain("publish", |_| async {
//!         Err(McpError::unavailable("The press is broken"))
//!     });
//!
//! let server = RetryTool::new()
//!     .with_max_attempts(5)
//!     .with_attempt_timeout(Duration::from_millis(200))
//!     .with_deadline(Duration::from_secs(10))
//!     .with_budget(Budget::new().with_ratio(0.2))
//!     .retry_if(|failure| {
//!         failure.is_temporary() && failure.kind() != Some(ErrorKind::RateLimited)
//!     })
//!     .on_retry(|event| {
//!         eprintln!(
//!             "{} again after {:?}: {}",
//!             event.tool,
//!             event.delay,
//!             event.failure.message()
//!         )
//!     })
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
//! # Ok(()) }
//! ```
//!
//! # Example: inside a tool
//!
//! A tool that makes several requests should retry only the one that failed:
//!
//! ```
//! use mcp_patterns::retry::RetryPolicy;
//! use turbomcp::{McpError, McpResult, RequestContext};
//!
//! struct Server {
//!     policy: RetryPolicy,
//!     failures: std::sync::atomic::AtomicU32,
//! }
//! impl Server {
//!     async fn fetch_with_retry(
//!         &self,
//!         url: &str,
//!         ctx: &RequestContext,
//!     ) -> McpResult<String> {
//!         self.policy.run(ctx, |_attempt| self.fetch(url)).await
//!     }
//!     async fn fetch(&self, url: &str) -> McpResult<String> {
//!         match self.failures.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) {
//!             0 => Ok(format!("Data from {url}")),
//!             _ => Err(McpError::unavailable("Temporary failure")),
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server { policy: RetryPolicy::new(), failures: 2.into() };
//! let ctx = RequestContext::new();
//! assert_eq!(
//!     server.fetch_with_retry("https://example.org", &ctx).await?,
//!     "Data from https://example.org"
//! );
//! # Ok(()) }
//! ```
//!
//! Store the policy in the server, not in the call: its budget counts all calls.
//!
//! # Defaults
//!
//! - tools: those annotated `read_only` or `idempotent`, in [the listing of the caller](crate::guide::catalogues)
//! - attempts: 3 in all
//! - delay: 50 ms before the second attempt, doubled before each further one, at most 20 s; it starts at 1 s if the failure asks for
//!   less load (rate limited, overloaded) without saying for how long
//! - jitter: full, so anything between zero and the delay; the upper half of the delay if the failure asks for less load
//! - `retryAfterMs` in the error's data: waited for in full, plus the delay; if it goes beyond the deadline, or is a century or more,
//!   there is no further attempt
//! - deadline: no attempt begins later than 30 s after the first one began; a running attempt is not cut short
//! - attempt timeout: none
//! - budget: one retry for ten calls and one per second, up to 100 saved up ([`Budget`]); a single caller can use half of the saved
//!   budget; identity: [the defaults](crate::Identity#defaults)
//! - temporary failures: timeout, unavailable, transport, external service, rate limited, server overloaded; not a failure without a
//!   kind, which a tool with an error type of its own returns ([`outcome`](crate::outcome))
//!
//! The numbers come from the [AWS SDKs' standard mode][aws] (attempts, delays, jitter) and the [Site Reliability Engineering
//! book][sre] (budget). With full jitter a throttled call might be repeated at once, so there half of the delay is fixed.
//!
//! [aws]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
//! [sre]: https://sre.google/sre-book/handling-overload/
//!
//! # Tools that ask their client
//!
//! An attempt that has sent its client a request (elicitation or sampling) is the last one, whatever its result: the user has
//! already answered, or still sees the question, and a sample has been paid for. The failure is `exhausted` with `asked`, also if an
//! attempt timeout ended the attempt. The client may call again; then its user knows why the question comes again.
//!
//! This holds for a question from any task of the tool, and through inner layers. Requests that a client answers without a person do
//! not count: roots, capabilities, protocol version, ping. Attempts before the question are repeated as usual. So a tool should
//! ask last, or use a [policy](#example-inside-a-tool) for its requests after it has asked.
//! [`RetryTool::allow_repeated_questions`] names tools whose users may be asked again.
//!
//! A person takes longer than a service: set no attempt timeout for tools that ask (exclude them with `except`, and give them a
//! `RetryTool` of their own).
//!
//! # Order
//!
//! Outside of this layer: validation, since a retry cannot fix invalid arguments; the cache, whose hits need no retry and whose
//! concurrent callers share one load; a batch. Inside: the transaction, since a serialization failure needs a new transaction. See
//! [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! The last failure is returned unchanged: its form, kind, text and data. Its `_meta` (its data, if it is a protocol error) gains
//! `mcp-patterns/attempts` and `mcp-patterns/exhausted`, the reason why there was no further attempt: `attempts`, `deadline` (also if
//! the failing service asked for a century), `budget`, `cancelled` or [`asked`](#tools-that-ask-their-client). A success after more than
//! one attempt has the number of attempts.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A call that is dropped, or whose context is cancelled, stops waiting (a cancelled one within 50 ms, since turbomcp's token can only
//! be polled) and makes no further attempt. A running attempt ends when the tool ends it, unless an attempt timeout is set. A panic
//! unwinds to the caller; it is not retried.
//!
//! A tool that reports progress starts over in each attempt. The caller still gets rising numbers, as the specification demands, and
//! none after the call has ended.
//!
//! # When the backend fails
//!
//! There is no backend: the budget belongs to this process. While a service fails for all callers, retries add at most a tenth to its
//! load once the saved budget is used up; then failures are returned at once.
//!
//! While a service fails for one caller, others are still retried: each caller has a [share](Budget) of the one budget, so the total
//! stays bounded. A [policy inside a tool](#example-inside-a-tool) that gets the call's context does the same.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_retries_total` and `mcp_patterns_retries_exhausted_total`, by `tool`. Events:
//! `retrying` (debug) and `no further attempt` (warn), with `tool`, `attempt` or `attempts`, and the kind or reason.

mod attempts;
mod budget;
mod builder;
mod delays;
mod describe;
mod layer;
mod plan;
mod policy;
mod usage;

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
