//! Building blocks for a tool that asks several services: side by side ([`Gather`]), one after the other until one has the answer
//! ([`Fallback`]), or in steps that each need the one before ([`Chain`]).
//!
//! Use them inside a tool that depends on more than one service, or on one service in more than one step. They are plain functions
//! over futures, without a language of their own. They add to `try_join!`, `if let Ok` and `?`: time limits, retries, partial answers
//! that leak nothing, and compensation for the completed steps of a failed workflow. If all steps write to one database, a
//! transaction is the better way to undo them: see [`transactional`](crate::guide::transactions).
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns
//! cargo add turbomcp serde_json
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Sources side by side: `Gather`
//!
//! A [`Source`] is a name and a closure that fetches a value. [`Gather::all`] returns the values of all sources, each with its type, or
//! the first failure. [`Gather::degrade`] returns a value or an error for each source: a failing source does not affect the others.
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::retry::RetryPolicy;
//! use mcp_patterns::workflow::{Gather, Source};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone, Default)]
//! struct Desk {
//!     retry: RetryPolicy,
//! }
//!
//! #[server(name = "desk", version = "1.0.0")]
//! impl Desk {
//!     /// Reads everything there is about a city.
//!     #[tool(read_only = true)]
//!     async fn fetch_all(
//!         &self,
//!         ctx: &RequestContext,
//!         query: String,
//!     ) -> McpResult<serde_json::Value> {
//!         let sources = (
//!             Source::new("weather", || self.fetch_weather(&query)),
//!             Source::new("stocks", || self.fetch_stocks(&query)).with_retry(&self.retry),
//!         );
//!         let (weather, stocks) = Gather::new().all(ctx, sources).await?;
//!         Ok(serde_json::json!({ "weather": weather, "stocks": stocks }))
//!     }
//!
//!     /// Reads what can be read about a city.
//!     #[tool(read_only = true)]
//!     async fn fetch_aggregated(
//!         &self,
//!         ctx: &RequestContext,
//!         query: String,
//!     ) -> McpResult<serde_json::Value> {
//!         let sources = [
//!             Source::new("weather", || self.fetch_weather(&query)).required(),
//!             Source::new("news", || self.fetch_news(&query))
//!                 .with_timeout(Duration::from_secs(2)),
//!         ];
//!         let answers = Gather::new().degrade(ctx, sources).await?;
//!         Ok(serde_json::json!(answers))
//!     }
//! }
//!
//! impl Desk {
//!     async fn fetch_weather(&self, query: &str) -> McpResult<String> {
//!         Ok(format!("Weather for {query}"))
//!     }
//!     async fn fetch_stocks(&self, _: &str) -> McpResult<u32> {
//!         Ok(42)
//!     }
//!     async fn fetch_news(&self, _: &str) -> McpResult<String> {
//!         Err(McpError::invalid_request("No newspaper covers it"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (server, ctx) = (Desk::default(), RequestContext::new());
//! let paris = serde_json::json!({"query": "Paris"});
//! let read = |answer: ToolResult| {
//!     serde_json::from_str::<serde_json::Value>(answer.first_text().unwrap()).unwrap()
//! };
//!
//! let all = server.call_tool("fetch_all", paris.clone(), &ctx).await?;
//! assert_eq!(read(all), serde_json::json!({"weather": "Weather for Paris", "stocks": 42}));
//!
//! let aggregated = server.call_tool("fetch_aggregated", paris, &ctx).await?;
//! assert_eq!(
//!     read(aggregated),
//!     serde_json::json!({
//!         "weather": {"status": "success", "data": "Weather for Paris"},
//!         "news": {"status": "error", "error": "No newspaper covers it"},
//!     })
//! );
//! # Ok(()) }
//! ```
//!
//! [`Source::json`] puts sources of different types into one list. A partial answer is a success, so a cache around the tool stores
//! it: exclude such a tool from the cache, or give it a short ttl.
//!
//! # Sources in order: `Fallback`
//!
//! Give the cheapest source first. A source without the answer returns `Ok(None)`; when a later source has found it, the sources that
//! missed get a copy (a backfill). The answer waits for the backfill, at most 250 ms, so that the next call finds it; a backfill that
//! fails, hangs or panics is logged and never fails the answer. A source that failed gets no backfill, to spare it the load.
//!
//! ```
//! use mcp_patterns::cached::Cache;
//! use mcp_patterns::workflow::{Fallback, Source};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Search {
//!     cache: Cache<String, String>,
//! }
//!
//! #[server(name = "search", version = "1.0.0")]
//! impl Search {
//!     /// Searches the cheapest source that has the answer.
//!     #[tool(read_only = true)]
//!     async fn smart_search(
//!         &self,
//!         ctx: &RequestContext,
//!         query: String,
//!     ) -> McpResult<ToolResult> {
//!         let query = &query;
//!         let sources = [
//!             Source::new("cache", || async { Ok(self.cache.get(query)) }).with_backfill(
//!                 |found| async {
//!                     self.cache.insert(query.clone(), found);
//!                     Ok(())
//!                 },
//!             ),
//!             Source::new("database", || self.search_database(query)),
//!             Source::new("api", || self.search_api(query)),
//!         ];
//!         match Fallback::new().find(ctx, sources).await? {
//!             Some(found) => Ok(found.annotate(ToolResult::text(&found.value))),
//!             None => Err(McpError::invalid_request("Nothing was found")),
//!         }
//!     }
//! }
//!
//! impl Search {
//!     async fn search_database(&self, _: &str) -> McpResult<Option<String>> {
//!         Err(McpError::unavailable("The database is down"))
//!     }
//!     async fn search_api(&self, query: &str) -> McpResult<Option<String>> {
//!         Ok(Some(format!("API result for {query}")))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Search { cache: Cache::new() };
//! let args = serde_json::json!({"query": "tea"});
//!
//! let first =
//!     server.call_tool("smart_search", args.clone(), &RequestContext::new()).await?;
//! assert_eq!(first.first_text(), Some("API result for tea"));
//! assert_eq!(
//!     first.meta.unwrap()["mcp-patterns/source"],
//!     serde_json::json!({
//!         "name": "api",
//!         "missed": ["cache"],
//!         "failed": ["database"],
//!         "backfilled": ["cache"],
//!     })
//! );
//!
//! let second = server.call_tool("smart_search", args, &RequestContext::new()).await?;
//! assert_eq!(
//!     second.meta.unwrap()["mcp-patterns/source"],
//!     serde_json::json!({"name": "cache"})
//! );
//! # Ok(()) }
//! ```
//!
//! After an error, the next source is asked, unless the error is about the call or its caller, so that no other source may answer
//! differently: invalid params or request, authentication, permission or access denied, security, rejected by the user, a required URL
//! elicitation, cancelled. [`Fallback::fall_back_if`] replaces this rule. The last source decides the result: its error is returned, or
//! `Ok(None)` if it has no answer.
//!
//! # Steps one after the other: `Chain`
//!
//! Each step has a name, which appears in the error and the log. An [`undoable`](Steps::undoable) step has a compensation; when a later
//! step fails, the completed steps are undone, the last one first (a [saga]).
//!
//! ```
//! use mcp_patterns::workflow::Chain;
//! use turbomcp::{McpError, McpResult, RequestContext};
//! use std::sync::{Arc, Mutex};
//!
//! #[derive(Clone, Default)]
//! struct Airline(Arc<Mutex<Vec<&'static str>>>);
//! impl Airline {
//!     async fn book(&self, _: &str) -> McpResult<u32> {
//!         self.0.lock().unwrap().push("booked");
//!         Ok(7)
//!     }
//!     async fn cancel(self, _: u32) -> McpResult<()> {
//!         self.0.lock().unwrap().push("cancelled");
//!         Ok(())
//!     }
//! }
//! async fn book_hotel(_: &str) -> McpResult<u32> {
//!     Err(McpError::unavailable("No room"))
//! }
//! async fn book_trip(
//!     airline: &Airline,
//!     city: &str,
//!     ctx: &RequestContext,
//! ) -> McpResult<u32> {
//!     let trip = Chain::new("book_trip");
//!     let booked = trip.run(ctx, |steps| async move {
//!         let cancel = |flight: &u32| airline.clone().cancel(*flight);
//!         let flight = steps.undoable("flight", airline.book(city), cancel).await?;
//!         let hotel = steps.step("hotel", book_hotel(city)).await?;
//!         Ok(flight + hotel)
//!     });
//!     Ok(booked.await?)
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let airline = Airline::default();
//! let error = book_trip(&airline, "Rome", &RequestContext::new()).await.unwrap_err();
//! assert_eq!(error.to_string(), "Step `hotel` failed: No room");
//! assert_eq!(
//!     error.data().unwrap()["mcp-patterns/chain"],
//!     serde_json::json!({"step": "hotel", "undone": ["flight"]})
//! );
//! assert_eq!(*airline.0.lock().unwrap(), ["booked", "cancelled"]);
//! # Ok(()) }
//! ```
//!
//! A step that fails may still have had its effect, if only its answer was lost. It is not undone, since that may do harm. If undoing
//! is harmless without the effect, register the compensation before the step with [`Steps::on_failure`]. A chain is not durable: if the
//! process dies, its compensations are lost. Work that must not be lost belongs in a [transaction](crate::guide::transactions), or
//! under an [idempotency key](crate::idempotency_keys), with which the call can be repeated.
//!
//! [saga]: https://www.cs.cornell.edu/andru/cs711/2002fa/reading/sagas.pdf
//!
//! # Defaults
//!
//! - a source: asked once, for at most 30 seconds, all its attempts together; optional
//! - `Gather`: all sources at once
//! - `Fallback`: 250 ms for the backfill of the sources that missed, all at once
//! - `Chain`: 10 seconds for each compensation; steps have no time limit
//!
//! # Order
//!
//! Workflows run inside the tool, so inside all layers. A `RetryTool` around the tool repeats the whole workflow, a [policy on the
//! source](Source::with_retry) only the source that failed; the layer does not retry a failure that the policy gave up on. A
//! `CachedTool` around a `Fallback` with a cache of its own would always report the source of the first answer: use only one of the two.
//!
//! Sources are polled concurrently by the task of the call. They see its transaction, but only one at a time can use its connection.
//! Compensations run in a task of their own, and see neither the transaction nor the session.
//!
//! # Errors
//!
//! The error of a source or step keeps its kind, text and data; `mcp-patterns/source` in the data has the name of the source. A
//! [`ChainError`] that is turned into an [`McpError`](turbomcp_core::McpError) names the step in its text too, and lists under
//! `mcp-patterns/chain` the steps that are `undone` (`["flight"]`) and `notUndone` (`[{"step": "room", "error": "It is sold"}]`), with
//! one entry for each compensation, also if a loop gives many steps one name. If the step was itself a chain, the lists of that chain
//! are under `inner`. If a step is not undone, the error is marked with `mcp-patterns/exhausted`: no layer may then repeat the call.
//!
//! A source or a compensation that panics has failed with an `internal` error. A panic in a step unwinds to the caller; the steps before
//! it are undone.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) of `check()`, and an error of kind `configuration` of each run.
//!
//! # What the caller reads of an error
//!
//! A partial answer, and the list of steps that are not undone, carry error texts to the client that the tool did not return itself.
//! The client reads the text of an error that addresses the caller: invalid params or request, resource not found, permission
//! denied, rejected by the user. The text of any other error may come from a driver and contain an address, so the client reads a
//! sentence with the name of the source or step, the kind and an id: ``"`news` did not answer in time (error 6b1f0c9e2d3a4855)"``. The
//! log has the error under that id.
//!
//! # Cancellation
//!
//! Sources belong to the call: they are dropped when the call is dropped or cancelled (a cancelled one within 50 ms, since turbomcp's
//! token can only be polled), and when the answer is decided without them. A chain that is cancelled begins no further step and lets
//! the running step end, so that it is known whether there is something to undo; a chain that is dropped drops its step. In both cases
//! the completed steps are undone in a separate task, which continues when the caller leaves.
//!
//! # When the backend fails
//!
//! There is no backend: compensations are kept in this process only.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_source_failures_total` by `source`, of failures that did not end the call, and
//! `mcp_patterns_compensations_total` by `chain` and `outcome` (`undone`, `failed`). Spans: `source`, `step` and `compensation`
//! (info). Events: `a source failed, the answer is partial`, `a source failed, asking the next`, `a backfill failed`,
//! `a step is not undone` (warn, with the error itself), `a chain was cancelled, undoing its steps` (info) and `a chain failed` (debug).

mod chain;
mod compensation;
mod degraded;
mod fallback;
mod gather;
mod mask;
mod source;
pub use chain::{Chain, Steps};
pub use compensation::{ChainError, CompensationResult};
pub use degraded::Degraded;
pub use fallback::{Fallback, Found};
pub use gather::{Gather, Sources};
pub use source::Source;

/// `_meta` entry, and entry of an error's data: which source an answer, or an error, comes from.
pub const SOURCE: &str = "mcp-patterns/source";
/// The entry of an error's data that says which step of a chain failed, and what was undone.
pub const CHAIN: &str = "mcp-patterns/chain";

#[cfg(test)]
mod tests;
