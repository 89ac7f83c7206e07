//! Answers a call from memory where the same call was answered before: [`CachedTool`] for whole tool calls, and for resources
//! and prompts on request, [`Cache`] inside a tool.
//!
//! Use it where a tool is asked the same thing again and its answer may be some time old: weather, search, reference data. It
//! does not fit a tool whose answer must be of this moment (a clock, a balance), since `readOnlyHint` promises that a tool
//! changes nothing, not that its answer stays the same: leave such tools out with [`CachedTool::except`].
//!
//! Only tools annotated `read_only` are cached, only successes are kept, and each user's results are kept apart, for each set of
//! rights: what an administrator's token has found never reaches a viewer's token of the same user.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{CachedTool, Layer};
//! # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
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
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: the same answers for everybody, warmed at the start
//!
//! ```
//! use std::time::Duration;
//! use mcp_patterns::{CachedTool, Layer, Scope, testing::ScriptedServer};
//! use serde_json::json;
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let script = ScriptedServer::new("site")
//!     .with_read_only("get_page", |call| async move { Ok(ToolResult::text(format!("Content of {}", call.args["page"]))) })
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
//! let pages = ["homepage", "pricing", "docs", "api"].map(|page| ("get_page", json!({"page": page})));
//! let warmed = cache.warm(pages, 2).await.unwrap();
//! assert_eq!((warmed.loaded, warmed.failed.len()), (4, 0));
//!
//! let ada = RequestContext::new().with_user_id("ada");
//! server.call_tool("get_page", json!({"page": "docs"}), &ada).await?;
//! assert_eq!(script.calls("get_page"), 4);
//! assert_eq!(cache.stats().hits, 1);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # What makes two calls the same
//!
//! The [namespace](CachedTool::with_namespace), the server's name, the [version](CachedTool::with_version), the tool, the caller as far as the [`Scope`](crate::Scope)
//! and the [`Identity`](crate::Identity) tell callers apart, what their token lets them do, and the arguments in [canonical form](crate::canonical): `{"a": 1, "b": 2}` and `{"b": 2, "a": 1.0}`
//! are the same. The whole of it is compared, not a hash.
//!
//! A result may depend on more than that: on the session of the call, where the tool opened one of a
//! [`SessionStore`](crate::SessionStore). Such a result is not kept and not handed to callers in another session, who make the
//! call themselves, unless the scope is [`Scope::Session`](crate::Scope::Session).
//!
//! # Tools that ask the client
//!
//! A tool that elicits, samples, lists roots, or reads the client's capabilities or protocol version asks one connection. From the
//! moment it asks, its call is no longer shared, in every scope, also if a task that it has spawned asks:
//!
//! - The question goes to the client of the caller who started the call. That caller goes on with it.
//! - Every other caller who waits for the call makes a call of their own, which asks their own client. None of them waits for
//!   another's client.
//! - The result is not kept, here or in a second level. A result from before, when the tool did not ask, is dropped.
//! - If the starter has left, the question is refused (`cancelled`). So is a question of a refresh in the background, which nobody
//!   waits for: it ends, its result is dropped, and the next caller is asked.
//! - A warm-up has no client (`capability_not_supported`). It reports the call as missing, also where the tool goes on without
//!   an answer.
//!
//! The layer does not remember which tools ask. So each call of such a tool is shared until it asks: have it ask before it works.
//! The load timeout ends with the question: who waits for a person decides how long.
//!
//! The same holds for resources and prompts. A [`Cache`] inside a tool does not see what its load does with a context: do not ask a
//! client in a load.
//!
//! # Progress and logs
//!
//! Everybody who waits for a call hears its progress: on their own connection, by their own token, rising, from the moment they come.
//! A caller without a token hears none, and a hit has none. Whoever makes the call alone after all hears progress that goes on
//! from where it was.
//!
//! A log (`notifications/message`) goes to all who wait, as far as each client's level allows and the starter's does. In
//! [`Scope::Public`](crate::Scope::Public), only callers with the starter's identity and rights get logs and the messages of progress. All others
//! get numbers.
//!
//! A slow connection holds up neither the call nor the other callers. Up to 128 notifications wait for it, then the oldest are
//! dropped, and its own result waits for them for a second at most. Nothing is sent after the result. All other notifications go
//! to the starter's client alone, and fail after a second.
//!
//! # Resources and prompts
//!
//! With [`with_resources`](CachedTool::with_resources) and [`with_prompts`](CachedTool::with_prompts), `resources/read` and
//! `prompts/get` are answered from the same cache. All that this page says of results and calls is true of them: who shares them,
//! how long they are kept, the bounds, which are for all kinds together, single-flight, failures, sessions, transactions and the
//! second level. A hit says so in their `_meta` too.
//!
//! - **Which.** All of a kind: to read changes nothing by the protocol, so that there is no annotation to ask. What changes from
//!   one moment to the next is left out by [`when_resource`](CachedTool::when_resource) and
//!   [`when_prompt`](CachedTool::when_prompt). The selectors for tools say nothing of them.
//! - **The same.** A resource is known by its URI, letter by letter; a prompt by its name and arguments, where none, `null` and
//!   `{}` are the same. A tool, a resource and a prompt of the same name have nothing to do with each other. An invalidation of a
//!   resource is of all URIs that differ only in escapes and case.
//! - **How long, and for whom.** [`with_resource_ttl`](CachedTool::with_resource_ttl),
//!   [`with_resource_scope`](CachedTool::with_resource_scope) and the same for prompts; otherwise as tools. Where some resources
//!   need another ttl or scope than others, two layers share the work, each with its own `when_resource`; the second one then
//!   leaves the tools to the first, with `when(|_| false)`.
//! - **Invalidation.** By the [`Handle`], by tags ([`tag_resources`](CachedTool::tag_resources),
//!   [`tag_prompts`](CachedTool::tag_prompts)), which they share with tools, and by tools that write
//!   ([`invalidates_resources`](CachedTool::invalidates_resources), [`invalidates_tags`](CachedTool::invalidates_tags)).
//! - **Updates.** A server that tells its client of a change makes wrong what is kept, for all callers and on all replicas, before
//!   the client is told, which reads again at once: `ctx.notify_resource_updated(uri)` one resource, also one of a template;
//!   `ctx.notify_resources_list_changed()` all resources, and failures to find one that were kept;
//!   `ctx.notify_prompts_list_changed()` all prompts, since nothing else tells that the text of one has changed. A changed list of
//!   tools makes no result wrong. Inside a transaction they are made wrong at once, and again after the commit; tell after the commit
//!   ([`after_commit`](crate::transactional::after_commit)), or the client reads what is not committed yet.
//!
//!   The layer hears what passes it: what is sent through the `ctx` of a tool, a resource, a prompt, or a
//!   `resources/subscribe` that came through it, also later, and from tasks. **It does not hear a session that the server got
//!   elsewhere**, another replica's clients, or another process: call [`Handle::invalidate_resource`],
//!   [`Handle::invalidate_resources`] or [`Handle::invalidate_prompts`] first, and wait for [`Handle::synced`] where replicas
//!   share. An update of a resource is not one of the list or folder that it is in: tell of both, or give them a tag.
//!
//!   Where resources or prompts are kept and the caller has a session, each call that is not a hit gets a copy of its context for
//!   this: four allocations and 0.8 kB, and what the context's headers and metadata take. Nothing else pays for it.
//!
//! [`Handle::warm`] and [`Handle::refresh`] are for tools.
//!
//! # Defaults
//!
//! - tools: those annotated `read_only`, as [the caller is told](crate::guide::catalogues) of them; resources and prompts: none
//! - ttl: 5 minutes; no idle time, no jitter, nothing stale, no early refresh, no failures kept
//! - scope: [`Scope::Principal`](crate::Scope::Principal), each user apart, all anonymous callers together; identity: [the
//!   defaults](crate::Identity#defaults)
//! - bounds: 10,000 results and 64 MiB; a result above 1 MiB is passed on and not kept; the policy of what stays is
//!   [TinyLFU](https://arxiv.org/abs/1512.00727)
//! - a call to the tool is given up after 5 minutes
//! - `_meta["mcp-patterns/cache"]`: `{"status": "hit", "level": 1, "ageMs": 1200}`, the same with `stale`, or
//!   `{"status": "miss"}`
//! - namespace: none, beside the server's name
//! - a second level: none. With one, a result is trusted here for 30 s, or 1 s while invalidations are not heard; a step takes
//!   50 ms at most; no lease
//!
//! # Order
//!
//! Outside: validation and whatever decides who may call what (turbomcp's `VisibilityLayer` too), which a hit must not get
//! around, limits, and a [`SessionStore`](crate::SessionStore). Inside: retries, which a hit does not need, and
//! transactions, which a hit must not open; a call that runs inside one is passed by. See [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! A failure is shared by those who wait for it and kept for nobody; its form, kind and text stay as they are. A call to the
//! tool that takes too long is a `timeout` to all who wait, one that panicked an `internal` error without detail.
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! Those who ask at the same time share one call to the tool, which belongs to none of them: it runs in a task of its own,
//! goes on when the one who started it leaves, and is dropped when the last has left. A caller whose context is cancelled
//! leaves within 50 ms. The tool sees the identity of who came first, a progress token that stands for those of all who wait, and a
//! cancellation token that fires when nobody waits any more. Your own task-locals do not reach it. Once the tool [asks a
//! client](#tools-that-ask-the-client), the call belongs to the one who started it, and ends with that caller.
//!
//! # Around the end of the ttl
//!
//! | setting | what happens |
//! | --- | --- |
//! | [`with_stale_while_revalidate`](CachedTool::with_stale_while_revalidate) | past its ttl, a result is served and computed anew in the background |
//! | [`with_stale_if_error`](CachedTool::with_stale_if_error) | past its ttl, a result is served if the tool fails |
//! | [`with_early_refresh`](CachedTool::with_early_refresh) | a result is computed anew before its ttl ends |
//! | [`with_ttl_jitter`](CachedTool::with_ttl_jitter) | results that were computed together do not end together |
//! | [`with_negative_ttl`](CachedTool::with_negative_ttl) | failures of the kinds you choose are kept, no longer than a result is trusted, until a success or an invalidation |
//!
//! A value that is found past its ttl in a [second level](#a-second-level) is treated the same: whoever finds it has it refreshed.
//! A result that was invalidated is never served by any of them. Work in the background ends when the last clone is dropped.
//!
//! # Invalidation
//!
//! By call, tool, [tag](CachedTool::tag) or all at once, with the [`Handle`], or by a tool that writes:
//! [`invalidates`](CachedTool::invalidates), [`invalidates_tags`](CachedTool::invalidates_tags),
//! [`invalidates_calls`](CachedTool::invalidates_calls) and
//! [`invalidates_resources`](CachedTool::invalidates_resources) take effect before the writer's answer is returned; after the commit,
//! where the call runs inside a transaction. A writer that fails invalidates too, because it may have taken effect: unless its failure
//! proves that it was [not executed](crate::outcome::Failure::is_not_executed), such as `invalid_params` or `permission_denied`. So
//! does one that is dropped half-way, and one inside a transaction whose commit has an unknown outcome. A rollback invalidates nothing.
//!
//! An invalidation holds at once and for all users: a result that is being computed meanwhile goes to those who asked before, and
//! is neither kept nor served to anyone who asks later. It costs no other result, unless very many different ones come while that is
//! kept: more than 10,000 tags in one process, 65,000 with a second level.
//!
//! # Warming
//!
//! [`Handle::warm`] makes calls, and [`Cache::warm`] loads keys, before anybody asks for them: so many at a time, and none that is
//! there already. One that fails stops none of the others, nor the start: the first ten failures are logged, and all are in the
//! report, [`Warmed`]. A start that needs every one of them says so, and fails with the names of what is missing:
//! `cache.warm(..).await?.complete()?`. Also then all are tried, so that it is said once and for all what is wrong.
//!
//! With a second level, it first waits until invalidations are heard, for a second at most: what was loaded before that is not
//! kept. Dropped, a warm-up begins nothing more and drops what nobody else waits for: so a start that may not take long puts
//! [`tokio::time::timeout`] around it.
//!
//! # A second level
//!
//! With [`with_second_level`](CachedTool::with_second_level), replicas share results: through Redis (`RedisLevel`, feature
//! `redis`), or a [`SecondLevel`] of yours. What this process does not have is looked for there, in one round trip; what it has
//! computed is put there in the background. Environments that share a level, such as staging and production, each need a
//! [`with_namespace`](CachedTool::with_namespace) of their own, or one serves the answers of the other; they still invalidate each
//! other's results, which costs loads, unless the level has a prefix for each.
//!
//! How stale an answer can be:
//!
//! | on | after an invalidation |
//! | --- | --- |
//! | the replica that invalidated | never, whatever the state of the second level, and whatever that loses |
//! | another, which is subscribed | until the message arrives, and never again; if it is lost, for the [first level's ttl](CachedTool::with_first_level_ttl) |
//! | another, which is not subscribed | for the [unsubscribed ttl](CachedTool::with_unsubscribed_ttl), from the end of a load that was under way; a lost connection is noticed within a second |
//! | another, while the one that invalidated cannot reach the second level | until it can, or the ttl ends |
//! | one that never heard of it, after the second level has lost it (a failover, an old snapshot) | until one that knows asks for anything that it invalidated, or the ttl ends |
//!
//! A second level that has lost its last writes is noticed by whoever knows of one of them. It then drops all that it had kept,
//! and is used again at once, for what is loaded from then on. `RedisLevel` notices [by more than that](RedisLevel#failover).
//!
//! A result that was computed from before an invalidation is found by nobody, on any replica: it is put with the number of the last
//! invalidation before it was computed, and whoever reads it asks in the same step whether what it depends on has a larger one.
//!
//! With [`with_lease`](CachedTool::with_lease), one replica computes a result, and the others serve what they have if it is within
//! one of the windows after its ttl, or wait.
//!
//! # When the backend fails
//!
//! It fails open. A second level that is down, hangs, is slow, full, read-only, panics or answers what nobody understands makes a miss.
//! Each step is given up after 50 ms; after five failures in a row no step is taken for five seconds, and then one at a time
//! until one succeeds, for steps that read and steps that write apart. A call waits for one step that reads, three with a lease,
//! and a writer for one that tells the others; while no steps are taken, for none. Without a connection, a result is trusted for a
//! second, and then computed again. A replica that has invalidated something reads nothing of it from the second level before that
//! knows, and nothing that is older after it knew: it remembers the numbers of the last thousands of invalidations, its own and those
//! that it has heard.
//!
//! # What is counted and logged
//!
//! [`Handle::stats`], for all that is kept, and the counters (feature `metrics`) `mcp_patterns_cache_requests_total` by `tool` and
//! `outcome` (`hit`, `miss`) and `mcp_patterns_cache_reads_total` by `kind` (`resource`, `prompt`) and `outcome`; of a second level
//! `mcp_patterns_cache_second_level_total` by `outcome` (`hit`, `miss`, `unknown`), `mcp_patterns_cache_second_level_puts_total` by
//! `outcome` (`put`, `dropped`, `failed`), `mcp_patterns_cache_second_level_failures_total` by `step`, and
//! `mcp_patterns_cache_second_level_breaker_total` by `steps` (`read`, `write`) and `to` (`open`, `closed`).
//!
//! Each acted-on call logs an event (debug) with `tool` or `kind`, and `cache`. A second level that fails is logged as warnings, each
//! kind of them at most once in ten seconds with how often it was not said, and one that is used again as an information. See
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
pub use second_level::memory::MemoryLevel;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use second_level::redis::RedisLevel;
pub use second_level::{Generation, Invalidation, LevelError, LevelFuture, Put, Read, SecondLevel, Subscription};

#[cfg(test)]
mod tests;
