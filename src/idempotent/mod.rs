//! Makes a call with a key take effect once, wherever the effect is: [`IdempotentTool`].
//!
//! **Callers who are not authenticated share their keys**, and read each other's answers. That is right for a local server with one user,
//! and wrong on a network. See [who shares a key](crate::idempotency_keys#who-shares-a-key).
//!
//! A model or a client may not know whether a call took effect. It then makes the call again with the same
//! [key](crate::idempotency_keys), and gets the first answer instead of a second effect. The first call claims the key, runs, and
//! records its answer.
//!
//! Use it for effects outside your database: a mail, a payment through a provider, a ticket. A process can die between such an effect
//! and its record, and then the record does not tell whether the effect happened. Such a call is *ambiguous*: the layer reports it as
//! ambiguous, and never makes it again until you [decide](crate::idempotency_keys::Handle::resolve).
//!
//! If the effect is in a SQL database, [`TransactionalTool`](crate::TransactionalTool) is better: effect and record commit together, and
//! only two kinds of calls are ambiguous: a commit whose answer was lost, and a tool that ends its transaction by itself. If the provider
//! takes idempotency keys, pass it one of yours as well.
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features idempotent,testing,redis
//! cargo add turbomcp serde_json async-trait
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! Keys in SQL need the features `transactional` and `sqlite` or `postgres`, and `sqlx@0.9`. A connection to Redis of your own
//! ([`from_redis_1`](crate::AnyRedisConnection::from_redis_1)) needs `redis@1.8`.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::idempotent::MemoryBackend;
//! use mcp_patterns::{IdempotentTool, Layer};
//! use std::sync::{
//!     Arc,
//!     atomic::{AtomicU32, Ordering},
//! };
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone, Default)]
//! struct Post {
//!     sent: Arc<AtomicU32>,
//! }
//!
//! #[server(name = "post", version = "1.0.0")]
//! impl Post {
//!     /// Sends a letter.
//!     #[tool]
//!     async fn send(&self, to: String) -> McpResult<String> {
//!         Ok(format!(
//!             "Letter {} is on its way to {to}",
//!             1 + self.sent.fetch_add(1, Ordering::Relaxed)
//!         ))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server =
//!     IdempotentTool::new(MemoryBackend::new()).only(["send"]).layer(Post::default());
//!
//! // The layer has added `idempotency_key` to the schema, and removes it before the call.
//! let letter = serde_json::json!({"to": "Ada", "idempotency_key": "9f1c"});
//! let first = server.call_tool("send", letter.clone(), &RequestContext::new()).await?;
//! assert_eq!(first.first_text(), Some("Letter 1 is on its way to Ada"));
//! let again = server.call_tool("send", letter, &RequestContext::new()).await?;
//! assert_eq!(again.first_text(), Some("Letter 1 is on its way to Ada"));
//! assert_eq!(again.meta.unwrap()["mcp-patterns/idempotency"], "replayed");
//! # Ok(()) }
//! ```
//!
//! # Example: several replicas on one Redis, with retries
//!
//! ```no_run
//! use std::time::Duration;
//! use mcp_patterns::idempotency_keys::Idempotency;
//! use mcp_patterns::idempotent::RedisBackend;
//! use mcp_patterns::{IdempotentTool, Layer, RedisConnection, RetryTool};
//! use mcp_patterns::testing::ScriptedServer;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ScriptedServer::new("post");
//!
//! let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
//! let idempotent = IdempotentTool::new(RedisBackend::new(redis))
//!     .every_write()
//!     .with_idempotency(
//!         Idempotency::new()
//!             .with_ttl(Duration::from_secs(7 * 24 * 3600))
//!             .required_for(["pay"]),
//!     )
//!     .with_lease(Duration::from_secs(60));
//! let server = (
//!     RetryTool::new(), // retries calls with a key, though no tool is annotated idempotent
//!     idempotent,
//! )
//!     .layer(server);
//! # Ok(()) }
//! ```
//!
//! # Example: a call that may or may not have taken effect
//!
//! ```
//! use mcp_patterns::idempotency_keys::Resolution;
//! use mcp_patterns::idempotent::MemoryBackend;
//! use mcp_patterns::{IdempotentTool, Layer, testing::ScriptedServer};
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//! use serde_json::json;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bank = ScriptedServer::new("bank")
//!     .with_plain("pay", |_| async { Err(McpError::timeout("The bank does not answer")) });
//! let idempotent = IdempotentTool::new(MemoryBackend::new()).only(["pay"]);
//! let handle = idempotent.handle();
//! let server = idempotent.layer(bank.clone());
//!
//! let (ctx, pay) = (RequestContext::new(), json!({"to": "Ada", "idempotency_key": "9f1c"}));
//! server.call_tool("pay", pay.clone(), &ctx).await?;
//! let again = server.call_tool("pay", pay.clone(), &ctx).await?;
//! assert!(again.first_text().unwrap().contains("it may or may not have taken effect"));
//! assert_eq!(bank.calls("pay"), 1);
//!
//! // A person has checked the account: the money was paid.
//! handle
//!     .resolve(&ctx, "pay", "9f1c", Resolution::Done(ToolResult::text("Paid")))
//!     .await
//!     .unwrap();
//! assert_eq!(server.call_tool("pay", pay, &ctx).await?.first_text(), Some("Paid"));
//! assert_eq!(bank.calls("pay"), 1);
//! # Ok(()) }
//! ```
//!
//! # Example: a backend of your own
//!
//! This backend counts claims and passes every step on. A backend that keeps records elsewhere has the same methods:
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//! use async_trait::async_trait;
//! use mcp_patterns::idempotency_keys::{AmbiguousCalls, Page, Resolved};
//! use mcp_patterns::idempotent::{Backend, BackendError, MemoryBackend};
//! use mcp_patterns::idempotent::{Claim, Claimed, Owner};
//! use mcp_patterns::testing::idempotency_backend_contract;
//!
//! #[derive(Default)]
//! struct Counting {
//!     inner: MemoryBackend,
//!     claims: AtomicU64,
//! }
//!
//! #[async_trait]
//! impl Backend for Counting {
//!     async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
//!         self.claims.fetch_add(1, Ordering::Relaxed);
//!         self.inner.claim(claim).await
//!     }
//!
//!     async fn renew(
//!         &self,
//!         owner: Owner<'_>,
//!         lease: Duration,
//!     ) -> Result<bool, BackendError> {
//!         self.inner.renew(owner, lease).await
//!     }
//!
//!     async fn complete(
//!         &self,
//!         owner: Owner<'_>,
//!         record: &str,
//!         ttl: Duration,
//!     ) -> Result<bool, BackendError> {
//!         self.inner.complete(owner, record, ttl).await
//!     }
//!
//!     async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
//!         self.inner.release(owner).await
//!     }
//!
//!     async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
//!         self.inner.abandon(owner).await
//!     }
//!
//!     async fn resolve(
//!         &self,
//!         id: &str,
//!         record: Option<&str>,
//!         ttl: Duration,
//!     ) -> Result<Resolved, BackendError> {
//!         self.inner.resolve(id, record, ttl).await
//!     }
//!
//!     async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
//!         self.inner.ambiguous(page).await
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! idempotency_backend_contract(|| async { Counting::default() }).await;
//! # Ok(()) }
//! ```
//!
//! # The outcome of a call with a key
//!
//! | the key | the answer | is the call made? |
//! | --- | --- | --- |
//! | is new | the tool's own | yes |
//! | has an answer, same arguments | the first answer, `_meta["mcp-patterns/idempotency"] = "replayed"`, and `"mcp-patterns/other-connection"` if the first call came over another one | no |
//! | had an answer that was too large to be kept | `internal`, `"answer_not_kept"` | no |
//! | belongs to an unknown caller: the request has credentials, but the [server of rmcp](crate::guide::with_rmcp#principals) does not say whose they are | `configuration`, `"unknown_caller"` | no |
//! | is missing where it is required, or does not have the form of a key | `invalid_params`, `"key_missing"` or `"key_invalid"` | no |
//! | is new, and the caller's share of a [`MemoryBackend`] is full | `server_overloaded`, `"overloaded"` | no |
//! | cannot be looked up, or claimed | `unavailable`, `"unavailable"` | no |
//! | cannot be looked up, since the table of a [`SqlBackend`] is missing | `internal`, `"no_table"` | no |
//! | has other arguments | `invalid_params`, `"key_reused"` | no |
//! | belongs to a call that runs | after a wait that call's answer, or `unavailable`, `"in_progress"` and `retryAfterMs` | no |
//! | belongs to an ambiguous call | `internal`, `"ambiguous"` | no, unless [`run_again_when_ambiguous`](IdempotentTool::run_again_when_ambiguous) is set |
//! | belongs to a call that was not resolved in the [chosen time](crate::idempotency_keys::Idempotency::with_final_refusal_after) | `internal`, `"unresolved"`, for the key's ttl | no |
//!
//! A failed call is [not executed](crate::outcome::Failure::is_not_executed) if the failure proves that it took no effect: it was refused
//! (`invalid_params`, not found, not permitted, rejected by the user), or turned away (`rate_limited`, `server_overloaded`,
//! `unavailable`). Its key is free again, or keeps the failure with
//! [`recording_failures`](crate::idempotency_keys::Idempotency::recording_failures).
//!
//! Any other failure proves nothing and makes the call ambiguous: a timeout, a broken connection, a failing service, an internal error, no
//! kind at all; an error that `?` made of a JSON or an IO error, which may have come after the effect whatever its kind; a refusal after
//! retries further in. [`with_not_executed`](IdempotentTool::with_not_executed) replaces this rule. A tool that returns `unavailable`
//! although it may have done something needs a rule of its own. The [session](crate::session#errors) is an exception: it says so itself
//! if its change may have been kept.
//!
//! A call is also ambiguous if it panicked, or if its process did not renew it for the time of a lease. An answer that comes after all is
//! recorded, unless the call has been resolved, taken over or finally refused. Then its first owner changes nothing any more, since each
//! claim has a token of its own.
//!
//! # Ambiguous calls
//!
//! [`handle`](IdempotentTool::handle) lists them, a [page](crate::idempotency_keys::Handle::ambiguous) at a time: tool, key, age, and a few
//! digits that all calls of one caller share. Neither arguments nor names of callers are kept. You resolve each as executed, with its
//! result, or as not executed; then the key is free.
//!
//! Without a chosen time, an ambiguous call stays ambiguous, and in the backend, until it is resolved. With
//! [`with_final_refusal_after`](crate::idempotency_keys::Idempotency::with_final_refusal_after), the first call with its key after that
//! time gets a final refusal. The refusal is the answer to the key for the key's ttl, like any other answer, and is never withdrawn. If
//! no call with the key comes, the ambiguous call is deleted after the chosen time and a ttl, when the refusal would have expired too.
//!
//! # Defaults
//!
//! - tools: none; name them, or use [`every_write`](IdempotentTool::every_write). A tool that no listing has had yet is
//!   [looked up](crate::guide::catalogues), and refused (tool not found, -32602) if its caller's listing does not have it, unless `only`
//!   leaves it out or [unlisted tools are allowed](IdempotentTool::allow_unlisted_tools)
//! - key: the optional argument `idempotency_key`. Keys are separate for each [namespace](IdempotentTool::with_namespace), server,
//!   [version](crate::idempotency_keys::Idempotency::with_version), user ([identity](crate::Identity#defaults)) and tool. A key survives a
//!   token with other scopes. A call without a key passes unchanged
//! - an answer is kept for 24 hours after it was given
//! - a lease is 30 s and is renewed every 10 s while the tool runs. A running call waits for no other call, and has no timeout
//! - a duplicate waits for 5 s. It looks after 10 ms, then after pauses twice as long each time, up to half a second
//! - each step of a backend may take 2 s
//! - a key has 1 to 255 characters
//! - [`MemoryBackend`]: 100,000 claims and answers of 256 MiB, half of which one caller alone may hold
//!
//! # Order
//!
//! Outside: retries, so that a failed call is made again under its key; validation, so that invalid arguments claim no key. Do not put a
//! cache around a tool that writes. The key is an [argument of the layer](crate::arguments): validation further out does not see it, and a
//! handle that a layer further in takes does not make a call with the same key another one. If the server has a tool with an argument of
//! that name at the start, the layer refuses it with a `ConfigError`; a tool that comes later takes no key, with a warning. Inside: what
//! takes part in the effect, also a transaction. See [the guide](crate::guide::ordering).
//!
//! A [`with_attempt_timeout`](crate::RetryTool::with_attempt_timeout) outside ends the wait for a call, not the call. The next attempt
//! finds the call running, and gets its answer if it comes in time; otherwise a later call gets it. Make that timeout longer than a call
//! usually takes. To stop the call itself, put the timeout inside, where its effect is known: for example into the client that the tool
//! uses.
//!
//! # Errors
//!
//! All errors in the table above are results with `isError`; their `_meta["io.turbomcp/errorData"]` has the word under
//! `mcp-patterns/idempotency`. If a text says that something is not available or not known, it has an id, and the log has the error under
//! that id. `unavailable` and `server_overloaded` are temporary: a [`RetryTool`](crate::RetryTool) outside makes these calls again, and no
//! others. The tool's own failures keep their form, kind and text. A failure that makes the call ambiguous is marked in its `_meta` (in
//! its data, if it is a protocol error).
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on a server. If the table of a
//! [`SqlBackend`] is missing, the server does not start: `on_initialize` fails, and its text names
//! [`ensure_schema`](SqlBackend::ensure_schema).
//!
//! # Cancellation
//!
//! A call that is cancelled before it begins does not begin. A duplicate that is cancelled stops waiting, within 50 ms. A running call is
//! not interrupted, since its outcome is worth knowing: its answer is recorded. If its caller is dropped, a task of its own runs it to its
//! end. So the tool must bound its own time, and cannot use task-locals of yours. If the tool itself gives up, the call is ambiguous. A
//! call that is dropped inside a transaction ends with the transaction, and is ambiguous, too.
//!
//! A caller who is dropped while the key is claimed leaves no claim behind.
//!
//! # When the backend fails
//!
//! Environments that share a backend, such as staging and production, each need a
//! [`with_namespace`](IdempotentTool::with_namespace) of their own. Otherwise, a key that was used in one has its answer in the other.
//!
//! The layer fails closed. If the backend is down, too slow or gives an answer that cannot be read before the call, the tool is not
//! called, the answer is `unavailable`, and a claim that was made anyway is taken back. Calls without a key need no backend. A
//! [`RedisConnection`](crate::RedisConnection) reconnects to a Redis that does not answer; other connections have
//! [limits](crate::RedisConnection#other-connections).
//!
//! A [`MemoryBackend`] drops no claim, and no answer before its time: neither for want of room, nor for another caller. Each caller has a
//! share of it. All anonymous connections together have the share of one caller, and each of them a part of it. If a share is full, new keys are refused with
//! `server_overloaded` until answers expire or ambiguous calls are [resolved](crate::idempotency_keys::Handle::resolve). An answer that
//! is too large for the share is returned to its caller, marked `"not_recorded"`; the call is not made again. The other backends bound no
//! number: bound the rate of calls.
//!
//! Tools that take all connections of a pool do not end the lease of a running call: a [`SqlBackend`] reserves a connection for the
//! leases. See [how large a pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be).
//!
//! A backend that loses its last writes forgets claims, and a call whose claim is lost may be made a second time. **A Redis that fails
//! over** does that, and so does a PostgreSQL whose standby lags. [`RedisBackend::with_replicas`](RedisBackend#failover) prevents it if
//! the replica that takes over has acknowledged the claim.
//!
//! After the call, the layer tries four times within a few seconds to record the answer. The caller waits for 2 s of that time, and then
//! gets the tool's answer, marked `"not_recorded"`. If all attempts fail, the claim stays, and later duplicates find it ambiguous.
//!
//! # What is counted and logged
//!
//! The counter (feature `metrics`) `mcp_patterns_idempotency_total` by `tool` and `outcome`: `recorded`, `replayed`, `released`
//! (not executed), `ambiguous`, `unresolved`, `not_recorded`, `in_progress`, `refused`, `cancelled`, `unavailable`, `overloaded`. Each
//! call with a key logs an event (debug) with `tool` and `idempotency`. An event that needs attention is a warning with a hash of the key,
//! never the key itself: [`AmbiguousCall::key_hash`](crate::idempotency_keys::AmbiguousCall::key_hash) returns the same hash. A backend
//! that fails is logged at most once in ten seconds, with the number of failures that were not logged; a backend that works again is
//! logged at the level `info`.

mod backend;
mod bounded;
mod builder;
mod claims;
mod describe;
mod held_claim;
mod keyed_call;
mod layer;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "transactional")]
mod renewals;
#[cfg(feature = "transactional")]
mod sql;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisBackend;
pub use backend::{Backend, BackendError, Claim, Claimed, Owner};
pub use builder::IdempotentTool;
pub use memory::MemoryBackend;
#[cfg(feature = "transactional")]
#[cfg_attr(docsrs, doc(cfg(feature = "transactional")))]
pub use sql::SqlBackend;

#[cfg(test)]
mod tests;
