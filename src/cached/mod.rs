//! A cache for MCP servers: [`CachedTool`] answers repeated tool calls, and on request resources and prompts, from memory. [`Cache`]
//! is the engine for values inside a tool.
//!
//! Use it if callers repeat their calls and an answer may be some time old: weather, search, reference data. Do not use it for a tool
//! whose answer must be current (a clock, a balance): `readOnlyHint` says that a tool changes nothing, not that its answer stays the
//! same. Exclude such tools with [`CachedTool::except`].
//!
//! Only tools annotated `read_only` are cached, and only successes are kept. Results are separate for each user and for each set of
//! rights: a result for an administrator's token never reaches a viewer's token of the same user.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features testing
//! cargo add turbomcp serde_json async-trait
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! A second level in Redis needs the feature `redis`. A connection to Redis of your own
//! ([`from_redis_1`](crate::AnyRedisConnection::from_redis_1)) needs `redis@1.8`.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{CachedTool, Layer};
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone, Default)]
//! struct Weather {
//!     requests: Arc<AtomicU32>,
//! }
//!
//! #[server(name = "weather", version = "1.0.0")]
//! impl Weather {
//!     /// Reads the weather of a city.
//!     #[tool(read_only = true)]
//!     async fn get_weather(&self, city: String) -> McpResult<String> {
//!         let requests = 1 + self.requests.fetch_add(1, Ordering::Relaxed);
//!         Ok(format!("Sunny in {city} (request {requests})"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cached = CachedTool::new();
//! let cache = cached.handle();
//! let server = cached.layer(Weather::default());
//!
//! let ctx = RequestContext::new();
//! let paris = serde_json::json!({"city": "Paris"});
//! let first = server.call_tool("get_weather", paris.clone(), &ctx).await?;
//! let second = server.call_tool("get_weather", paris.clone(), &ctx).await?;
//! assert_eq!(first.first_text(), Some("Sunny in Paris (request 1)"));
//! assert_eq!(second.first_text(), Some("Sunny in Paris (request 1)"));
//! assert_eq!(second.meta.unwrap()["mcp-patterns/cache"]["status"], "hit");
//!
//! cache.invalidate("get_weather", &paris);
//! let third = server.call_tool("get_weather", paris, &ctx).await?;
//! assert_eq!(third.first_text(), Some("Sunny in Paris (request 2)"));
//! # Ok(()) }
//! ```
//!
//! # Example: answers for all users, warmed at the start
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::{CachedTool, Layer, Scope, testing::ScriptedServer};
//! use serde_json::json;
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = ScriptedServer::new("site")
//!     .with_read_only("get_page", |call| async move {
//!         Ok(ToolResult::text(format!("Content of {}", call.args["page"])))
//!     })
//!     .with_read_only("my_orders", |_| async { Ok(ToolResult::text("none")) })
//!     .with_read_only("now", |_| async { Ok(ToolResult::text("just now")) });
//!
//! let cached = CachedTool::new()
//!     .with_scope_for("get_page", Scope::Public)
//!     .with_ttl_for("get_page", Duration::from_secs(3600))
//!     .with_idle_time(Duration::from_secs(60))
//!     .with_max_bytes(16 << 20)
//!     .except(["now"]);
//! let cache = cached.handle();
//! let server = cached.layer(script.clone());
//!
//! let pages = ["homepage", "pricing", "docs", "api"]
//!     .map(|page| ("get_page", json!({"page": page})));
//! let warmed = cache.warm(pages, 2).await.unwrap();
//! assert_eq!((warmed.loaded, warmed.failed.len()), (4, 0));
//!
//! let ada = RequestContext::new().with_user_id("ada");
//! server.call_tool("get_page", json!({"page": "docs"}), &ada).await?;
//! assert_eq!(script.calls("get_page"), 4);
//! assert_eq!(cache.stats().hits, 1);
//! # Ok(()) }
//! ```
//!
//! # Which calls are the same
//!
//! Two calls are the same if all of these are equal: the [namespace](CachedTool::with_namespace), the name of the server, the
//! [version](CachedTool::with_version), the tool, the caller (as the [`Scope`](crate::Scope) and the [`Identity`](crate::Identity) say),
//! the rights of the caller's token, and the arguments in [canonical form](crate::canonical): `{"a": 1, "b": 2}` and
//! `{"b": 2, "a": 1.0}` are equal. The cache compares all of it, not a hash.
//!
//! A result may also depend on the session of the call, if the tool opened one of a [`SessionStore`](crate::SessionStore). Such a
//! result is not kept. Callers in another session who wait for it make the call themselves. With
//! [`Scope::Session`](crate::Scope::Session), it is kept.
//!
//! # Tools that ask the client
//!
//! A tool that elicits, samples, lists roots, or reads the client's capabilities or protocol version asks one connection. From the
//! moment it asks, its call is no longer shared, in every scope, also if a task that it has spawned asks:
//!
//! - The question goes to the client of the caller who started the call. That caller continues with the call.
//! - Every other caller who waits makes a call of their own, which asks their own client. No caller waits for the client of another.
//! - The result is not kept, here or in a second level. A result that was kept when the tool did not ask is dropped.
//! - If the caller who started the call has left, the question is refused (`cancelled`). The same holds for a question of a refresh in
//!   the background, which has no caller: the refresh ends, its result is dropped, and the next caller's client is asked.
//! - A warm-up has no client (`capability_not_supported`). It reports the call as missing, even if the tool continues without an
//!   answer.
//!
//! The layer does not remember which tools ask, so each call of such a tool is shared until it asks: let the tool ask before it works.
//! The load timeout ends with the question, since a person needs time to answer.
//!
//! The same holds for resources and prompts. A [`Cache`] inside a tool does not see how its load uses a context: do not ask a client in a
//! load.
//!
//! # Progress and logs
//!
//! Every caller who waits for a call receives its progress: on their own connection, with their own token, rising, from the moment they
//! join. A caller without a token receives none, and a hit has none. A caller who has to make the call alone after all receives progress
//! that continues from the last number.
//!
//! A log (`notifications/message`) goes to all callers who wait, if the level of their client and that of the caller who started the call
//! allow it. In [`Scope::Public`](crate::Scope::Public), only callers with the identity and rights of that caller receive logs and the
//! messages of progress. All others receive numbers.
//!
//! A slow connection delays neither the call nor the other callers. Up to 128 notifications wait for it; above that, the oldest are
//! dropped. Its own result waits for them for a second at most. Nothing is sent after the result. All other notifications go only to the
//! client of the caller who started the call, and fail after a second.
//!
//! # Resources and prompts
//!
//! With [`with_resources`](CachedTool::with_resources) and [`with_prompts`](CachedTool::with_prompts), the same cache answers
//! `resources/read` and `prompts/get`. Everything on this page that holds for results and calls holds for them: scopes, ttls, bounds (one
//! for all kinds together), single-flight, failures, sessions, transactions and the second level. Their `_meta` names a hit too.
//! [`Reads`] has the settings of each of the two.
//!
//! - **Which.** All resources (or prompts): reads have no side effects in MCP, so there is no annotation to check. Exclude those that
//!   must be current with [`Reads::when`]. The selectors for tools do not apply to them.
//! - **The same.** A resource is identified by its URI, byte by byte; a prompt by its name and arguments, where no arguments, `null` and
//!   `{}` are equal. A tool, a resource and a prompt of the same name are unrelated. An invalidation of a resource covers all URIs that
//!   differ only in escapes and case.
//! - **Ttl and scope.** [`Reads::with_ttl`] and [`Reads::with_scope`]; by default those of the layer. If some resources need another ttl
//!   or scope than others, use two layers, each with its own [`Reads::when`]; exclude the tools from the second one with
//!   `when(|_| false)`.
//! - **Clients that cache.** [`Reads::with_cache_hints`] tells clients how long they may keep a resource: for what remains of its time.
//! - **Invalidation.** By the [`Handle`], by tags ([`Reads::with_tags`]), which they share with tools, and by tools that write
//!   ([`invalidates_resources`](CachedTool::invalidates_resources), [`invalidates_tags`](CachedTool::invalidates_tags)).
//! - **Notifications.** A notification of a change invalidates before the client gets it, for all callers and on all replicas, since the
//!   client reads again at once. `ctx.notify_resource_updated(uri)` invalidates one resource, also one of a template.
//!   `ctx.notify_resources_list_changed()` invalidates all resources, and kept failures to find one.
//!   `ctx.notify_prompts_list_changed()` invalidates all prompts, since there is no notification for the text of one. A changed list of
//!   tools invalidates nothing. Inside a transaction, a notification invalidates at once, and again after the commit; notify after the
//!   commit ([`after_commit`](crate::transactional::after_commit)), or the client reads the state from before it.
//!
//!   The layer sees the notifications that are sent through the `ctx` of a tool, a resource, a prompt, or a `resources/subscribe` that
//!   passed the layer, also later and from tasks. **It does not see a session that the server got elsewhere**, the clients of another
//!   replica, or another process: call [`Handle::invalidate_resource`], [`Handle::invalidate_resources`] or
//!   [`Handle::invalidate_prompts`] first, and await [`Handle::synced`] if replicas share results. An update of a resource does not
//!   invalidate the list or folder that contains it: notify for both, or give both a tag.
//!
//!   If resources or prompts are kept and the caller has a session, each call that is not a hit gets a copy of its context for this: four
//!   allocations and 0.8 kB, plus the headers and metadata of the context. No other call pays for it.
//!
//! [`Handle::warm`] and [`Handle::refresh`] are for tools.
//!
//! # Defaults
//!
//! - tools: those annotated `read_only`, as [the list for the caller](crate::guide::catalogues) has them; resources and prompts: none
//! - ttl: 5 minutes; no idle time, no jitter, no stale answers, no early refresh, no failures kept
//! - scope: [`Scope::Principal`](crate::Scope::Principal), separate for each user, shared by all anonymous callers; identity: [the
//!   defaults](crate::Identity#defaults)
//! - bounds: 10,000 results and 64 MiB; a result above 1 MiB is returned and not kept; the eviction policy is
//!   [TinyLFU](https://arxiv.org/abs/1512.00727)
//! - load timeout: 5 minutes
//! - `_meta["mcp-patterns/cache"]`: `{"status": "hit", "level": 1, "ageMs": 1200}`, the same with `stale`, or
//!   `{"status": "miss"}`
//! - namespace: none; the name of the server always separates results
//! - second level: none. With one, a result is served for 30 s without asking it, or for 1 s while invalidations do not arrive; a step
//!   takes 50 ms at most; no lease
//!
//! # Order
//!
//! Outside: validation and every layer that decides which caller may call which tool (turbomcp's `VisibilityLayer` too), since a hit must
//! not bypass them, limits, and a [`SessionStore`](crate::SessionStore). Inside: retries, which a hit does not need, and transactions,
//! which a hit must not open; a call inside a transaction bypasses the cache. See [the guide](crate::guide::ordering).
//!
//! # Two caches in one stack
//!
//! Two layers can share the work, each for tools of its own. Where both keep the answers of one tool:
//!
//! - An answer may be as old as both allow together, since the outer one takes what the inner one has for new. So may a failure.
//! - Each needs the same invalidations: give both the same [`invalidates`](CachedTool::invalidates), and call both handles. The order
//!   does not matter. Until the inner one is invalidated too, a caller may get its answer, but the outer one does not keep that answer.
//! - Each receives by itself what other replicas invalidate. Again the order does not matter.
//! - The outer one puts an answer that the inner one had already into no second level. An inner one with a second level has put it
//!   there.
//! - What the inner one keeps for one session ([`Scope::Session`](crate::Scope::Session)), the outer one does not keep, whatever its
//!   scope.
//!
//! # Errors
//!
//! Callers who wait share a failure, and it is not kept; its form, kind and text stay as they are. A call that exceeds the load timeout is
//! a `timeout` for all callers who wait, and a call that panicked is an `internal` error without detail.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on a server, and from [`Cache::check`].
//!
//! # Cancellation
//!
//! Cancelling one caller never affects the others. Concurrent callers share one call to the tool, which runs in a task of its own and is
//! dropped when the last caller has left. A caller whose context is cancelled leaves within 50 ms. The tool sees the identity of the
//! first caller, a progress token that stands for those of all callers, and a cancellation token that fires when no caller waits any more.
//! It does not see task-locals of a caller. Once the tool [asks a client](#tools-that-ask-the-client), the call belongs to the caller
//! who started it, and ends with that caller.
//!
//! # Around the end of the ttl
//!
//! | setting | effect |
//! | --- | --- |
//! | [`with_stale_while_revalidate`](CachedTool::with_stale_while_revalidate) | past its ttl, a result is served while it is refreshed in the background |
//! | [`with_stale_if_error`](CachedTool::with_stale_if_error) | past its ttl, a result is served if the tool fails |
//! | [`with_early_refresh`](CachedTool::with_early_refresh) | a result is refreshed in the background before its ttl ends |
//! | [`with_ttl_jitter`](CachedTool::with_ttl_jitter) | results that were computed together do not expire together |
//! | [`with_negative_ttl`](CachedTool::with_negative_ttl) | failures of the kinds you choose are kept, no longer than a result is served, until a success or an invalidation |
//!
//! The same holds for a value past its ttl in a [second level](#a-second-level): the call that finds it starts the refresh. None of them
//! ever serves a result that was invalidated. Work in the background ends when the last clone is dropped.
//!
//! # Invalidation
//!
//! The [`Handle`] invalidates by call, tool, [tag](CachedTool::tag) or everything. A tool that writes invalidates with
//! [`invalidates`](CachedTool::invalidates), [`invalidates_tags`](CachedTool::invalidates_tags),
//! [`invalidates_calls`](CachedTool::invalidates_calls) and [`invalidates_resources`](CachedTool::invalidates_resources), before the answer
//! of the writer is returned; inside a transaction, after its commit. A writer that fails invalidates too, because it may have taken
//! effect, unless its failure proves that it was [not executed](crate::outcome::Failure::is_not_executed), such as `invalid_params` or
//! `permission_denied`. A writer that was dropped, or whose commit has an unknown outcome, may have taken effect, so it invalidates too. A
//! rollback invalidates nothing.
//!
//! An invalidation takes effect at once and for all users: a result that is being computed meanwhile goes to the callers who asked
//! before, and is neither kept nor served to later callers. It does not affect other results, except after very many different
//! invalidations while a result is kept: more than 10,000 tags in one process, 65,000 with a second level.
//!
//! # Warming
//!
//! [`Handle::warm`] makes calls, and [`Cache::warm`] loads keys, before the first caller asks for them: up to `concurrency` at a time, and
//! only those that are not present. A failure stops neither the others nor the start: the first ten failures are logged, and the report,
//! [`Warmed`], has all of them. A start that needs every value calls `cache.warm(..).await?.complete()?`, which fails with the names of
//! the missing ones. All are tried even then, so that the error is complete.
//!
//! With a second level, a warm-up first waits until invalidations arrive, for a second at most: a value that is loaded earlier is not
//! kept. Dropped, a warm-up begins no other load and drops those that no other caller waits for. To limit the time of a start, put
//! [`tokio::time::timeout`] around it.
//!
//! # A second level
//!
//! With [`with_second_level`](CachedTool::with_second_level), replicas share results: through Redis (`RedisLevel`, feature
//! `redis`), or through [your own](#a-second-level-of-your-own). A value that this process does not have is looked up there, in one round
//! trip; a loaded value is put there in the background. Environments that share a level, such as staging and production, each need their
//! own [`with_namespace`](CachedTool::with_namespace), or one serves the answers of the other. They still invalidate each other's
//! results, which costs loads, unless each has its own prefix in the level.
//!
//! How stale an answer can be after an invalidation:
//!
//! | on | stale answers |
//! | --- | --- |
//! | the replica that invalidated | never, whatever the state of the second level and whatever it loses |
//! | another, which is subscribed | until the message arrives; if it is lost, for the [first level's ttl](CachedTool::with_first_level_ttl) |
//! | another, which is not subscribed | for the [unsubscribed ttl](CachedTool::with_unsubscribed_ttl), from the end of a load that was under way; a lost connection is detected within a second |
//! | another, while the one that invalidated cannot reach the second level | until it can, or the ttl ends |
//! | one that never received it, after the second level has lost it (a failover, an old snapshot) | until a replica that knows it asks for anything that it invalidated, or the ttl ends |
//!
//! A second level that has lost its last writes is detected by every replica that knows one of them. The replica then drops all values of
//! the level, and uses it again at once for values that are loaded from then on. `RedisLevel` detects
//! [more losses](RedisLevel#failover).
//!
//! No replica serves a result that was computed from the state before an invalidation: it is put with the number of the last invalidation
//! before its computation, and each read checks in the same step whether one of its invalidation keys has a larger number.
//!
//! With [`with_lease`](CachedTool::with_lease), one replica computes a result. The others serve their own if it is within one of the
//! windows after its ttl, or wait.
//!
//! # A second level of your own
//!
//! Implement [`SecondLevel`], and check it with [`second_level_contract`](crate::testing::second_level_contract). This one counts the reads
//! of another level:
//!
//! ```
//! use std::sync::{
//!     Arc,
//!     atomic::{AtomicU64, Ordering},
//! };
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use mcp_patterns::cached::{
//!     Cache, LevelError, MemoryLevel, Put, Read, SecondLevel, Subscription,
//! };
//! use turbomcp::McpError;
//!
//! struct Counted {
//!     level: MemoryLevel,
//!     reads: Arc<AtomicU64>,
//! }
//!
//! #[async_trait]
//! impl SecondLevel for Counted {
//!     async fn get(
//!         &self,
//!         key: &[u8],
//!         invalidation_keys: &[u64],
//!     ) -> Result<Read, LevelError> {
//!         self.reads.fetch_add(1, Ordering::Relaxed);
//!         self.level.get(key, invalidation_keys).await
//!     }
//!
//!     async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
//!         self.level.put(values).await
//!     }
//!
//!     async fn invalidate(
//!         &self,
//!         origin: u64,
//!         invalidation_keys: &[u64],
//!     ) -> Result<u64, LevelError> {
//!         self.level.invalidate(origin, invalidation_keys).await
//!     }
//!
//!     async fn raise(
//!         &self,
//!         key: &[u8],
//!         invalidation_keys: &[u64],
//!         number: u64,
//!     ) -> Result<(), LevelError> {
//!         self.level.raise(key, invalidation_keys, number).await
//!     }
//!
//!     async fn acquire(
//!         &self,
//!         key: &[u8],
//!         token: u64,
//!         lease: Duration,
//!     ) -> Result<bool, LevelError> {
//!         self.level.acquire(key, token, lease).await
//!     }
//!
//!     async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
//!         self.level.release(key, token).await
//!     }
//!
//!     async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
//!         self.level.subscribe().await
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reads = Arc::<AtomicU64>::default();
//! let level = Counted { level: MemoryLevel::new(), reads: Arc::clone(&reads) };
//! let cache = Cache::<String, u64>::new().with_second_level("numbers", level);
//! assert_eq!(cache.get_or_load(&(), "one".into(), || async { Ok(1) }).await?, 1);
//! assert_eq!(reads.load(Ordering::Relaxed), 1);
//! # Ok(()) }
//! ```
//!
//! # When the backend fails
//!
//! It fails open. A second level that is down, hangs, is slow, full, read-only, panics or returns damaged values makes a miss. Each step
//! ends after 50 ms. After five failures in a row, the breaker skips all steps for five seconds, and then lets one at a time through until
//! one succeeds; steps that read and steps that write have separate breakers. A call waits for one step that reads, or three with a lease;
//! a writer waits for one that sends its invalidation; while the breaker is open, they wait for none. Without a connection, a result is
//! served for a second, and then computed again.
//!
//! Until the second level has received an invalidation, the replica that issued it skips the second level for those keys. After that, it
//! uses no older value: it remembers the numbers of the last thousands of invalidations, its own and those that it has received.
//!
//! # Counters and logs
//!
//! [`Handle::stats`], for all kinds together, and the counters (feature `metrics`) `mcp_patterns_cache_requests_total` by `tool` and
//! `outcome` (`hit`, `miss`) and `mcp_patterns_cache_reads_total` by `kind` (`resource`, `prompt`) and `outcome`; of a second level
//! `mcp_patterns_cache_second_level_total` by `outcome` (`hit`, `miss`, `unknown`), `mcp_patterns_cache_second_level_puts_total` by
//! `outcome` (`put`, `dropped`, `failed`), `mcp_patterns_cache_second_level_failures_total` by `step`, and
//! `mcp_patterns_cache_second_level_breaker_total` by `steps` (`read`, `write`) and `to` (`open`, `closed`).
//!
//! Each call that the layer acts on logs an event (debug) with `tool` or `kind`, and `cache`. A second level that fails logs warnings,
//! each kind of them at most once in ten seconds with the number of those that were left out, and an information when it is used again. See
//! [the guide](crate::guide::tracing).

mod cache;
mod first_level;
mod layer;
mod second_level;

pub use cache::Cache;
pub use cache::error::LoadError;
pub use cache::stats::{SecondLevelStats, Stats};
pub use cache::warm::{NotWarmed, Warmed};
pub use layer::CachedTool;
pub use layer::handle::Handle;
pub use layer::plan::Reads;
pub use second_level::memory::MemoryLevel;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use second_level::redis::RedisLevel;
pub use second_level::{Generation, Invalidation, LevelError, Put, Read, SecondLevel, Subscription};

/// The reason why a setting of zero is refused.
const ZERO: &str = "must be greater than zero";

#[cfg(test)]
mod tests;
