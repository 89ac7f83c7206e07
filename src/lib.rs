//! Layers for MCP servers: cache, retry and the other patterns that production needs, around any [TurboMCP] handler, and around any server
//! of the official SDK, [`rmcp`](guide::with_rmcp).
//!
//! A layer wraps a server, and the result is a server again. It acts only where the tools' own annotations say that this is safe,
//! recognizes a failure in each of its forms, and never shows one user the answer of another.
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::{CachedTool, Layer, RetryTool};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Weather;
//!
//! #[server(name = "weather", version = "1.0.0")]
//! impl Weather {
//!     /// Reads the weather of a city.
//!     #[tool(read_only = true)]
//!     async fn get_weather(&self, city: String) -> McpResult<String> {
//!         Ok(format!("Sunny in {city}"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = (
//!     CachedTool::new().with_ttl(Duration::from_secs(300)), // outermost: a hit ends here
//!     RetryTool::new(), // repeats calls after temporary failures
//! )
//!     .layer(Weather);
//!
//! // `server.run_stdio().await` serves it. Here the example calls it directly.
//! let paris = serde_json::json!({"city": "Paris"});
//! server.call_tool("get_weather", paris.clone(), &RequestContext::new()).await?;
//! let again = server.call_tool("get_weather", paris, &RequestContext::new()).await?;
//! assert_eq!(again.first_text(), Some("Sunny in Paris"));
//! assert_eq!(again.meta.unwrap()["mcp-patterns/cache"]["status"], "hit");
//! # Ok(()) }
//! ```
//!
//! # Layers
//!
//! The layers, outermost first:
//!
//! | layer | what happens to a call | acts by default on | manual |
//! | --- | --- | --- | --- |
//! | [`AuditTool`] | is recorded, with its end: one event for each call, also for a hit, a refusal, or a caller who has left | every tool | [`audit`] |
//! | [`OutputTool`] | is bounded in its answer: what is too long is cut or kept as a resource, and texts can be redacted | every tool | [`output`] |
//! | [`ValidatedTool`] | is rejected if its arguments are invalid, with every violation listed | every tool | [`validated`] |
//! | [`SessionStore`] | finds its session: per connection, per user, or by a handle | every tool | [`session`] |
//! | [`CachedTool`] | is answered from memory, or from a cache shared with other replicas, if the same call was answered before | read-only tools; resources and prompts on request | [`cached`] |
//! | [`BatchedTool`] | is combined with calls made at the same time into one call | tools you name | [`batched`] |
//! | [`RetryTool`] | is repeated after a temporary failure | read-only and idempotent tools, calls with a key | [`retry`] |
//! | [`BreakerTool`] | is refused at once while the backend of its tool fails | every tool | [`breaker`] |
//! | [`LimitedTool`] | is refused above a rate or a number of calls at the same time, and ended after a timeout | every tool | [`limited`] |
//! | [`IdempotentTool`] | takes effect once per key, for effects outside of SQL | tools you name | [`idempotent`] |
//! | [`TransactionalTool`] | runs in a SQL transaction, committed if it succeeds; with a key, it takes effect once | tools you name | [`transactional`] |
//! | [`UntrustedServer`] | passes unchanged; no layer follows the marks that the server puts into results | every tool, for servers that are not yours | [`guide::catalogues`] |
//! | your own | runs through your [`Middleware`] | the tools you choose | [`middleware`] |
//!
//! [`ValidatedTool`] rejects arguments above its [limits](validated::Limits), even if the tool's schema allows them: by default 1 MiB
//! in all, 512 KiB in one string, 32 levels, 50,000 values, 10,000 items in one array, 1,000 properties in one object.
//!
//! Every layer is its own builder, and has the selectors `only`, `except` and `when`. [`Layer::layer`] panics if a setting cannot work.
//! [`TryLayer::try_layer`] returns a [`ConfigError`] instead, which says what is wrong and what to do.
//!
//! # The type of a server
//!
//! The type of a server with layers names each of them. [`boxed()`] erases it: a [`BoxHandler`] is the same type for any layers. Use it
//! for a struct field, both branches of an `if`, or the items of a `Vec`.
//!
//! # Servers of the official SDK
//!
//! ```
//! use mcp_patterns::{CachedTool, RetryTool, RmcpServer, TryLayer};
//!
//! /// Your server, as you have written it for `rmcp`.
//! #[derive(Clone)]
//! struct Notes;
//!
//! impl rmcp::ServerHandler for Notes {}
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let notes = RmcpServer::try_new(Notes)?;
//! let server = (CachedTool::new(), RetryTool::new()).try_layer(notes)?;
//! // `server.serve(rmcp::transport::stdio()).await` serves it.
//! # Ok(()) }
//! ```
//!
//! [`guide::with_rmcp`] says what a server over HTTP needs.
//!
//! # Order
//!
//! The first layer of a tuple is the outermost: it sees a call first. Validation belongs outside the cache, the cache outside the
//! retries, and the retries outside the transaction. [`guide::ordering`] shows the reasons with counted calls.
//!
//! `eprintln!("{}", explain(&server))` prints the layers of each tool with their settings, to stderr: over stdio, stdout belongs to the
//! protocol. It warns of wrong orders and of layers that act on nothing, and [`strict`](explain::Explanation::strict) turns these warnings
//! into an error: see [`explain`](mod@explain).
//!
//! # Inside a tool
//!
//! The engines also work without a layer: [`cached::Cache`] keeps any value and loads it once for all concurrent callers,
//! [`batched::Batcher`] combines many requests into one, [`retry::RetryPolicy`] repeats any future,
//! [`transactional::Transactor`] runs any function in a transaction, [`validated::Schema`] checks any value, and
//! [`SessionStore::of`] finds the session of a call. With [`workflow`], a tool calls several services in parallel, in order, or in steps
//! that can be undone.
//!
//! # Patterns
//!
//! Many servers are copied from the page "Real-World Patterns", which has seventeen patterns. [`guide::patterns`] lists the layer for
//! each, the faults of the copied snippet in production, and the same server in a few lines.
//!
//! # Stability
//!
//! Rust 1.94 or later. [`guide::versions`] states the rules for Rust versions, for semantic versioning, and for the dependencies whose
//! types are in the public API.
//!
//! # Features
//!
//! | feature | what it adds | default |
//! | --- | --- | --- |
//! | `audit` | [`AuditTool`]; with `sqlite` or `postgres`, a table | yes |
//! | `batched` | [`BatchedTool`] | yes |
//! | `breaker` | [`BreakerTool`] | yes |
//! | `cached` | [`CachedTool`]; with `redis`, a second level for replicas | yes |
//! | `limited` | [`LimitedTool`] | yes |
//! | `output` | [`OutputTool`] | yes |
//! | `retry` | [`RetryTool`] | yes |
//! | `session` | [`SessionStore`], in memory; with `redis`, `sqlite` or `postgres` | yes |
//! | `workflow` | [`workflow`]: partial answers, fallbacks and compensations, for tool bodies | yes |
//! | `idempotent` | [`IdempotentTool`], in memory; with `redis`, or with `transactional` and its databases | |
//! | `transactional` | [`TransactionalTool`], with `sqlite` or `postgres` | |
//! | `validated` | [`ValidatedTool`] | |
//! | `sqlite`, `postgres`, `redis` | the backends, and [`RedisConnection`]; `sqlite` brings SQLite and needs a C compiler | |
//! | `metrics` | counters, histograms and gauges through the [`metrics`](https://docs.rs/metrics) facade, see [`guide::tracing`] | |
//! | `rmcp` | [`RmcpServer`]: the layers around servers of the official SDK; with `session`, `redis`, `sqlite` or `postgres` also [`rmcp_stores`] for replicas | |
//! | `testing` | [`testing`]: a scripted server, and contract tests for backends of your own | |
//! | `backon`, `backoff` | delays from the builders of those crates, see [`retry::Delays`] | |
//! | `full` | all features | |
//!
//! [TurboMCP]: https://docs.rs/turbomcp

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "full"),
    allow(dead_code, unused_imports, unused_macros, reason = "no single layer uses all of the shared code")
)]

pub mod arguments;
mod boxed;
mod cache_hints;
pub mod cancellation;
pub mod canonical;
#[cfg(any(feature = "breaker", feature = "cached", feature = "limited"))]
mod circuit;
mod clock;
#[cfg(any(
    feature = "transactional",
    all(any(feature = "audit", feature = "rmcp", feature = "session"), any(feature = "postgres", feature = "sqlite"))
))]
mod connections;
#[cfg(any(
    feature = "transactional",
    all(any(feature = "audit", feature = "rmcp", feature = "session"), any(feature = "postgres", feature = "sqlite"))
))]
mod database;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod detached;
mod error;
pub mod explain;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", feature = "transactional"))]
mod fault;
pub mod guide;
mod hints;
pub mod idempotency_keys;
mod identity;
mod key_hash;
mod masked;
pub mod middleware;
pub mod outcome;
mod percent;
#[cfg(all(
    feature = "postgres",
    any(feature = "audit", feature = "rmcp", feature = "session", feature = "transactional")
))]
#[cfg_attr(
    docsrs,
    doc(cfg(all(
        feature = "postgres",
        any(feature = "audit", feature = "rmcp", feature = "session", feature = "transactional")
    )))
)]
pub mod postgres;
mod progress;
#[cfg(any(feature = "breaker", feature = "limited", feature = "retry"))]
mod questions;
#[cfg(feature = "redis")]
mod redis_connection;
mod references;
#[cfg(all(feature = "redis", any(feature = "idempotent", feature = "rmcp", feature = "session")))]
mod replication;
mod scope;
pub mod selection;
mod shared_work;
#[cfg(any(feature = "idempotent", feature = "session"))]
mod shares;
#[cfg(any(
    feature = "transactional",
    all(any(feature = "audit", feature = "rmcp", feature = "session"), any(feature = "postgres", feature = "sqlite"))
))]
mod sweeper;
#[cfg(any(
    feature = "transactional",
    all(any(feature = "audit", feature = "rmcp", feature = "session"), any(feature = "postgres", feature = "sqlite"))
))]
mod tables;
mod telemetry;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
#[cfg(feature = "transactional")]
pub mod transactional;
mod untrusted;

#[cfg(feature = "audit")]
#[cfg_attr(docsrs, doc(cfg(feature = "audit")))]
pub mod audit;
#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
pub mod batched;
#[cfg(feature = "breaker")]
#[cfg_attr(docsrs, doc(cfg(feature = "breaker")))]
pub mod breaker;
#[cfg(feature = "cached")]
#[cfg_attr(docsrs, doc(cfg(feature = "cached")))]
pub mod cached;
#[cfg(feature = "idempotent")]
#[cfg_attr(docsrs, doc(cfg(feature = "idempotent")))]
pub mod idempotent;
#[cfg(feature = "limited")]
#[cfg_attr(docsrs, doc(cfg(feature = "limited")))]
pub mod limited;
#[cfg(feature = "output")]
#[cfg_attr(docsrs, doc(cfg(feature = "output")))]
pub mod output;
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub mod retry;
#[cfg(feature = "rmcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "rmcp")))]
pub mod rmcp_server;
#[cfg(all(feature = "rmcp", any(feature = "postgres", feature = "redis", feature = "session", feature = "sqlite")))]
#[cfg_attr(
    docsrs,
    doc(cfg(all(
        feature = "rmcp",
        any(feature = "postgres", feature = "redis", feature = "session", feature = "sqlite")
    )))
)]
pub mod rmcp_stores;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub mod session;
#[cfg(feature = "validated")]
#[cfg_attr(docsrs, doc(cfg(feature = "validated")))]
pub mod validated;
#[cfg(feature = "workflow")]
#[cfg_attr(docsrs, doc(cfg(feature = "workflow")))]
pub mod workflow;

#[cfg(feature = "audit")]
#[cfg_attr(docsrs, doc(cfg(feature = "audit")))]
pub use audit::AuditTool;
#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
pub use batched::BatchedTool;
pub use boxed::{BoxHandler, boxed};
#[cfg(feature = "breaker")]
#[cfg_attr(docsrs, doc(cfg(feature = "breaker")))]
pub use breaker::BreakerTool;
#[cfg(feature = "cached")]
#[cfg_attr(docsrs, doc(cfg(feature = "cached")))]
pub use cached::CachedTool;
pub use error::ConfigError;
pub use explain::explain;
#[cfg(feature = "idempotent")]
#[cfg_attr(docsrs, doc(cfg(feature = "idempotent")))]
pub use idempotent::IdempotentTool;
pub use identity::{Identity, Scope};
#[cfg(feature = "limited")]
#[cfg_attr(docsrs, doc(cfg(feature = "limited")))]
pub use limited::LimitedTool;
pub use middleware::{Layered, Middleware, MiddlewareLayer, TryLayer, layer};
#[cfg(feature = "output")]
#[cfg_attr(docsrs, doc(cfg(feature = "output")))]
pub use output::OutputTool;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis_connection::{AnyRedisConnection, RedisConnection};
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use retry::RetryTool;
#[cfg(feature = "rmcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "rmcp")))]
pub use rmcp_server::RmcpServer;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use session::SessionStore;
pub use tower_layer::Layer;
#[cfg(feature = "transactional")]
pub use transactional::TransactionalTool;
pub use untrusted::UntrustedServer;
#[cfg(feature = "validated")]
#[cfg_attr(docsrs, doc(cfg(feature = "validated")))]
pub use validated::ValidatedTool;

/// The examples of the README run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
