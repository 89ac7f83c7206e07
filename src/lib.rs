//! Layers for MCP servers: cache, retry and the other patterns that production needs, around any [TurboMCP] handler.
//!
//! A layer wraps a server and is a server again. It acts only where that is safe by the tools' own annotations, tells
//! failures from successes in all their forms, and never lets one user see what another asked for.
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = (
//!     CachedTool::new().with_ttl(Duration::from_secs(300)), // outermost: a hit ends here
//!     RetryTool::new(),                                     // temporary failures are tried again
//! )
//!     .layer(Weather);
//!
//! // `server.run_stdio().await` serves it; here it is called at once.
//! let paris = serde_json::json!({"city": "Paris"});
//! server.call_tool("get_weather", paris.clone(), &RequestContext::new()).await?;
//! let again = server.call_tool("get_weather", paris, &RequestContext::new()).await?;
//! assert_eq!(again.first_text(), Some("Sunny in Paris"));
//! assert_eq!(again.meta.unwrap()["mcp-patterns/cache"]["status"], "hit");
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Layers
//!
//! Outermost first, in the order in which they are put on:
//!
//! | layer | what happens to a call | acts on, unless told otherwise | manual |
//! | --- | --- | --- | --- |
//! | [`ValidatedTool`] | ends at the door if its arguments are bad, with an answer that says all that is wrong | every tool | [`validated`] |
//! | [`SessionStore`] | finds what was kept for its session: per connection, per user, or under a handle | every tool | [`session`] |
//! | [`CachedTool`] | is answered from memory, or from what other replicas know, where the same call was answered before | read-only tools; resources and prompts on request | [`cached`] |
//! | [`BatchedTool`] | travels with others that are made at the same time, as one call | tools you name | [`batched`] |
//! | [`RetryTool`] | is made again after a temporary failure | read-only and idempotent tools, calls with a key | [`retry`] |
//! | [`IdempotentTool`] | takes effect once per key, where the effect is not in SQL | tools you name | [`idempotent`] |
//! | [`TransactionalTool`] | runs in a SQL transaction, committed if it succeeds; with a key, it takes effect once | tools you name | [`transactional`] |
//! | [`UntrustedServer`] | passes, and what the server says of it steers no layer | every tool; for servers that are not yours | [`guide::catalogues`] |
//! | yours | what your [`Middleware`] says | what you choose | [`middleware`] |
//!
//! [`ValidatedTool`] refuses what is larger than its [limits](validated::Limits), whatever the tool's schema says: by default 1 MiB
//! in all, 512 KiB in one string, 32 levels, 50,000 values, 10,000 items in one array, 1,000 properties in one object.
//!
//! Every layer is its own builder, and has the selectors `only`, `except` and `when`. Put on with [`Layer::layer`], a mistake in
//! the settings panics; [`TryLayer::try_layer`] returns it as a [`ConfigError`] that names the fix.
//!
//! # The type of a server
//!
//! The type of a server with layers names all of them. [`boxed()`] erases it: a [`BoxHandler`] is one type whatever the layers
//! are, for a struct field, both branches of an `if`, or the items of a `Vec`.
//!
//! # Order
//!
//! The first of a tuple is the outermost: it sees a call first. Validation belongs outside the cache, the cache outside the
//! retries, and the retries outside the transaction; [`guide::ordering`] shows why, by counting calls.
//!
//! # Inside a tool
//!
//! The engines work without a layer too: [`cached::Cache`] keeps any value and loads it once however many ask at the same time,
//! [`batched::Batcher`] turns many questions into one, [`retry::RetryPolicy`] runs any future again,
//! [`transactional::Transactor`] runs any function in a transaction, [`validated::Schema`] checks any value, and
//! [`SessionStore::of`] finds the session of a call. A tool that asks several services does so side by side, in order or in
//! steps that can be undone with [`workflow`].
//!
//! # Patterns
//!
//! "Real-World Patterns", the page that many servers are copied from, has seventeen of them. [`guide::patterns`] lists where each
//! is here, what its snippet gets wrong in production, and the same server in a few lines.
//!
//! # Features
//!
//! | feature | what it adds | default |
//! | --- | --- | --- |
//! | `batched` | [`BatchedTool`] | yes |
//! | `cached` | [`CachedTool`]; with `redis`, a second level for replicas | yes |
//! | `retry` | [`RetryTool`] | yes |
//! | `session` | [`SessionStore`], in memory; with `redis`, `sqlite` or `postgres` | yes |
//! | `workflow` | [`workflow`]: partial answers, fallbacks and steps that can be undone, for tool bodies | yes |
//! | `idempotent` | [`IdempotentTool`], in memory; with `redis`, or with `transactional` and its databases | |
//! | `transactional` | [`TransactionalTool`], with `sqlite` or `postgres` | |
//! | `validated` | [`ValidatedTool`] | |
//! | `sqlite`, `postgres`, `redis` | the backends, and [`RedisConnection`]; `sqlite` brings SQLite and needs a C compiler | |
//! | `metrics` | counters, histograms and gauges through the [`metrics`](https://docs.rs/metrics) facade, see [`guide::tracing`] | |
//! | `testing` | [`testing`]: a server that does what a test says, and contracts for stores of your own | |
//! | `backon`, `backoff` | delays from the builders of those crates, see [`retry::Delays`] | |
//! | `full` | all of them | |
//!
//! [TurboMCP]: https://docs.rs/turbomcp

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "full"),
    allow(dead_code, unused_imports, unused_macros, reason = "what the layers share is not all used by each of them")
)]

pub mod arguments;
mod boxed;
pub mod cancellation;
pub mod canonical;
mod clock;
#[cfg(any(feature = "transactional", all(feature = "session", any(feature = "postgres", feature = "sqlite"))))]
mod connections;
#[cfg(any(feature = "transactional", all(feature = "session", any(feature = "postgres", feature = "sqlite"))))]
mod database;
#[cfg(any(feature = "idempotent", feature = "transactional"))]
mod detached;
mod error;
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
#[cfg(all(feature = "postgres", any(feature = "session", feature = "transactional")))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "postgres", any(feature = "session", feature = "transactional")))))]
pub mod postgres;
mod progress;
#[cfg(feature = "retry")]
mod questions;
#[cfg(feature = "redis")]
mod redis_connection;
mod references;
#[cfg(all(feature = "redis", any(feature = "idempotent", feature = "session")))]
mod replication;
mod scope;
pub mod selection;
mod shared_work;
#[cfg(any(feature = "idempotent", feature = "session"))]
mod shares;
#[cfg(any(feature = "transactional", all(feature = "session", any(feature = "postgres", feature = "sqlite"))))]
mod sweeper;
mod telemetry;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
#[cfg(feature = "transactional")]
pub mod transactional;
mod untrusted;

#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
pub mod batched;
#[cfg(feature = "cached")]
#[cfg_attr(docsrs, doc(cfg(feature = "cached")))]
pub mod cached;
#[cfg(feature = "idempotent")]
#[cfg_attr(docsrs, doc(cfg(feature = "idempotent")))]
pub mod idempotent;
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub mod retry;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub mod session;
#[cfg(feature = "validated")]
#[cfg_attr(docsrs, doc(cfg(feature = "validated")))]
pub mod validated;
#[cfg(feature = "workflow")]
#[cfg_attr(docsrs, doc(cfg(feature = "workflow")))]
pub mod workflow;

#[cfg(feature = "batched")]
#[cfg_attr(docsrs, doc(cfg(feature = "batched")))]
pub use batched::BatchedTool;
pub use boxed::{BoxHandler, boxed};
#[cfg(feature = "cached")]
#[cfg_attr(docsrs, doc(cfg(feature = "cached")))]
pub use cached::CachedTool;
pub use error::ConfigError;
#[cfg(feature = "idempotent")]
#[cfg_attr(docsrs, doc(cfg(feature = "idempotent")))]
pub use idempotent::IdempotentTool;
pub use identity::{Identity, Scope};
pub use middleware::{Layered, Middleware, MiddlewareLayer, TryLayer, layer};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis_connection::{AnyRedisConnection, RedisConnection};
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
pub use retry::RetryTool;
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
