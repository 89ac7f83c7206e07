//! What a tool does that asks several things: side by side ([`Gather`]), one after the other until one has it ([`Fallback`]), or
//! in steps of which each needs the one before ([`Chain`]).
//!
//! Use it inside a tool that depends on more than one service, or on one in more than one step. They are plain functions over
//! futures, without a language of their own: what they add to `try_join!`, `if let Ok` and `?` is time limits, retries,
//! partial answers that leak nothing, and the undoing of what a failed workflow leaves half done. Where all steps write to one
//! database, a transaction undoes them better: see [`transactional`](crate::guide::transactions).
//!
//! # Sources side by side: `Gather`
//!
//! A [`Source`] is a name and a closure that asks. [`Gather::all`] returns what all of them answer, each with its type, or the
//! first failure; [`Gather::degrade`] returns what became of each, so that one that failed does not take the others along.
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
//!     async fn fetch_all(&self, ctx: &RequestContext, query: String) -> McpResult<serde_json::Value> {
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
//!     async fn fetch_aggregated(&self, ctx: &RequestContext, query: String) -> McpResult<serde_json::Value> {
//!         let sources = [
//!             Source::new("weather", || self.fetch_weather(&query)).required(),
//!             Source::new("news", || self.fetch_news(&query)).with_timeout(Duration::from_secs(2)),
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let (server, ctx) = (Desk::default(), RequestContext::new());
//! let paris = serde_json::json!({"query": "Paris"});
//! let read = |answer: ToolResult| serde_json::from_str::<serde_json::Value>(answer.first_text().unwrap()).unwrap();
//!
//! let all = server.call_tool("fetch_all", paris.clone(), &ctx).await?;
//! assert_eq!(read(all), serde_json::json!({"weather": "Weather for Paris", "stocks": 42}));
//!
//! let aggregated = server.call_tool("fetch_aggregated", paris, &ctx).await?;
//! assert_eq!(read(aggregated), serde_json::json!({
//!     "weather": {"status": "success", "data": "Weather for Paris"},
//!     "news": {"status": "error", "error": "No newspaper covers it"},
//! }));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! Sources of different types stand in one list as [`Source::json`]. A partial answer is a success, and a cache around the tool
//! would keep it: leave such a tool out of the cache, or give it a short ttl.
//!
//! # Sources in order: `Fallback`
//!
//! The cheapest source first. One that has nothing says `Ok(None)`; once a later one has found it, those that missed are handed
//! a copy. The answer waits for that, for a quarter of a second at most, so that the next call finds it; a backfill that fails,
//! hangs or panics is logged, and never fails the answer. A source that failed is not filled: it has enough to do.
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
//!     /// Searches the nearest place that knows.
//!     #[tool(read_only = true)]
//!     async fn smart_search(&self, ctx: &RequestContext, query: String) -> McpResult<ToolResult> {
//!         let query = &query;
//!         let sources = [
//!             Source::new("cache", || async { Ok(self.cache.get(query)) }).with_backfill(|found| async {
//!                 self.cache.insert(query.clone(), found);
//!                 Ok(())
//!             }),
//!             Source::new("database", || self.search_database(query)),
//!             Source::new("api", || self.search_api(query)),
//!         ];
//!         match Fallback::new().find(ctx, sources).await? {
//!             Some(found) => Ok(found.tell(ToolResult::text(&found.value))),
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = Search { cache: Cache::new() };
//! let args = serde_json::json!({"query": "tea"});
//!
//! let first = server.call_tool("smart_search", args.clone(), &RequestContext::new()).await?;
//! assert_eq!(first.first_text(), Some("API result for tea"));
//! assert_eq!(first.meta.unwrap()["mcp-patterns/source"], serde_json::json!({
//!     "name": "api", "missed": ["cache"], "failed": ["database"], "backfilled": ["cache"],
//! }));
//!
//! let second = server.call_tool("smart_search", args, &RequestContext::new()).await?;
//! assert_eq!(second.meta.unwrap()["mcp-patterns/source"], serde_json::json!({"name": "cache"}));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! An error leads to the next source, unless it is about the call or its caller, which no other source should judge again:
//! invalid params or request, authentication, permission or access denied, security, rejected by the user, asking for a URL,
//! cancelled. [`Fallback::with_move_on`] decides otherwise. The last source has the last word: it is its error that comes back,
//! or `Ok(None)` where it has nothing.
//!
//! # Steps one after the other: `Chain`
//!
//! Each step has a name, which the error and the log tell. A step that is [`undoable`](Steps::undoable) says how; when a later
//! one fails, those that succeeded are undone, the last one first (a [saga]).
//!
//! ```
//! use mcp_patterns::workflow::Chain;
//! use turbomcp::{McpError, McpResult, RequestContext};
//! # use std::sync::{Arc, Mutex};
//!
//! # #[derive(Clone, Default)] struct Airline(Arc<Mutex<Vec<&'static str>>>);
//! # impl Airline {
//! #     async fn book(&self, _: &str) -> McpResult<u32> { self.0.lock().unwrap().push("booked"); Ok(7) }
//! #     async fn cancel(self, _: u32) -> McpResult<()> { self.0.lock().unwrap().push("cancelled"); Ok(()) }
//! # }
//! # async fn book_hotel(_: &str) -> McpResult<u32> { Err(McpError::unavailable("No room")) }
//! async fn book_trip(airline: &Airline, city: &str, ctx: &RequestContext) -> McpResult<u32> {
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let airline = Airline::default();
//! let error = book_trip(&airline, "Rome", &RequestContext::new()).await.unwrap_err();
//! assert_eq!(error.to_string(), "Step `hotel` failed: No room");
//! assert_eq!(error.data().unwrap()["mcp-patterns/chain"], serde_json::json!({"step": "hotel", "undone": ["flight"]}));
//! # assert_eq!(*airline.0.lock().unwrap(), ["booked", "cancelled"]);
//! # });
//! ```
//!
//! A step that fails may have had its effect all the same, when only its answer was lost. It is not undone, since that may do harm;
//! where undoing what is not there does none, say so before the step with [`Steps::on_failure`]. A chain is not durable: a process
//! that dies takes its compensations along. What must not be lost belongs in a [transaction](crate::guide::transactions), or
//! under an [idempotency key](crate::idempotency_keys), with which the call can be made again.
//!
//! [saga]: https://www.cs.cornell.edu/andru/cs711/2002fa/reading/sagas.pdf
//!
//! # Defaults
//!
//! - a source: asked once, for 30 seconds at most, all its attempts together; optional
//! - `Gather`: all sources at once
//! - `Fallback`: 250 ms for filling the sources that missed, all at once
//! - `Chain`: 10 seconds for each compensation; steps take as long as they take
//!
//! # Order
//!
//! Workflows are inside the tool, so inside every layer. A `RetryTool` around the tool repeats the whole of it, a
//! [policy on the source](Source::with_retry) only what failed; what the policy gave up on, the layer leaves alone. A `CachedTool` around a `Fallback` that has its own
//! cache would tell where the first answer came from: leave one of them out.
//!
//! Sources are polled side by side by the task of the call. They see its transaction, but only one at a time can hold its
//! connection. Compensations run in a task of their own, and see neither the transaction nor the session.
//!
//! # Errors
//!
//! The error of a source or step keeps its kind, its text and its data; `mcp-patterns/source` in the data names the source. A
//! [`ChainError`] turned into an [`McpError`](turbomcp_core::McpError) names the step in its text too, and lists under
//! `mcp-patterns/chain` what was `undone` (`["flight"]`) and what is `notUndone` (`[{"step": "room", "error": "It is sold"}]`): an
//! entry for each compensation, also where a loop gives many steps one name. Where the step was a chain itself, its own lists are
//! under `inner`. Where something is not undone, the error is marked with `mcp-patterns/exhausted`: no layer may then make the
//! call again.
//!
//! A source, or a compensation, that panics has failed with an `internal` error. A panic in a step unwinds to the caller, and has the
//! steps before it undone.
//!
//! # What the caller reads of an error
//!
//! In a partial answer, and in the list of what is not undone, the text of an error would reach the client although no one
//! returned it. Of errors that speak to the caller (invalid params or request, resource not found, permission denied, rejected
//! by the user) it reads the text. Of all others, whose text may be a driver's with an address in it, it reads a sentence
//! that tells the source or step, the kind and an id: ``"`news` did not answer in time (error 6b1f0c9e2d3a4855)"``. The log has
//! the error under that id.
//!
//! # Cancellation
//!
//! Sources belong to the call: dropped or cancelled, it drops them (a cancelled one within 50 ms, since turbomcp's token can only
//! be polled), and so does an answer that is decided without them. A chain that is cancelled begins no further step, but lets
//! the running one end, so that it is known whether there is something to undo; one that is dropped drops its step. In both
//! cases the steps that succeeded are undone in a task of its own, which nobody's leaving stops.
//!
//! # When the backend fails
//!
//! There is none. Compensations are kept in this process only.
//!
//! # What is counted and logged
//!
//! Counters (feature `metrics`): `mcp_patterns_source_failures_total` by `source`, of failures that did not end the call, and
//! `mcp_patterns_compensations_total` by `chain` and `outcome` (`undone`, `failed`). Spans: `source`, `step` and `compensation`
//! (info). Events: `a source was left out`, `a source failed, asking the next`, `a source was not filled`, `a step is not undone`
//! (warn, with the error itself), `a chain was left, undoing its steps` (info) and `a chain failed` (debug).

mod chain;
mod compensation;
mod degraded;
mod fallback;
mod gather;
mod mask;
mod source;
pub use chain::{Chain, Steps};
pub use compensation::{ChainError, Compensated};
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
