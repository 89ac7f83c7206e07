//! Makes a call with a key take effect once, wherever the effect is: [`IdempotentTool`].
//!
//! **Callers who are not authenticated share their keys**, and read each other's answers: all right for a local server with one user,
//! and not on a network. See [who shares a key](crate::idempotency_keys#who-shares-a-key).
//!
//! A model, or a client, that does not know whether a call took effect makes it again with the same [key](crate::idempotency_keys)
//! and gets the first answer instead of a second effect. The first call claims the key, runs, and records its answer.
//!
//! Use it for effects outside your database: a mail, a payment through a provider, a ticket. Between such an effect and its
//! record a process can die, and then nobody can know by looking at the record whether the effect happened. Such a call is
//! *ambiguous*: it is reported as that, and never made again until you
//! [decide](crate::idempotency_keys::Handle::resolve). Where the effect is in a SQL database,
//! [`TransactionalTool`](crate::TransactionalTool) does better: effect and record commit together. Only two things are ambiguous to it:
//! a commit whose answer got lost, and a tool that ends its transaction by itself. Where the provider takes idempotency keys itself, hand it one of yours
//! as well.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::idempotent::MemoryStore;
//! use mcp_patterns::{IdempotentTool, Layer};
//! # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
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
//!         Ok(format!("Letter {} is on its way to {to}", 1 + self.sent.fetch_add(1, Ordering::Relaxed)))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = IdempotentTool::new(MemoryStore::new()).only(["send"]).layer(Post::default());
//!
//! // The layer has added `idempotency_key` to the tool's schema, and takes it out before the call.
//! let letter = serde_json::json!({"to": "Ada", "idempotency_key": "9f1c"});
//! let first = server.call_tool("send", letter.clone(), &RequestContext::new()).await?;
//! assert_eq!(first.first_text(), Some("Letter 1 is on its way to Ada"));
//! let again = server.call_tool("send", letter, &RequestContext::new()).await?;
//! assert_eq!(again.first_text(), Some("Letter 1 is on its way to Ada"));
//! assert_eq!(again.meta.unwrap()["mcp-patterns/idempotency"], "replayed");
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: several replicas on one Redis, with retries
//!
//! ```no_run
//! # #[cfg(feature = "redis")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use mcp_patterns::idempotency_keys::Idempotency;
//! use mcp_patterns::idempotent::RedisStore;
//! use mcp_patterns::{IdempotentTool, Layer, RedisConnection, RetryTool};
//! # use mcp_patterns::testing::ScriptedServer;
//! # let server = ScriptedServer::new("post");
//!
//! let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
//! let idempotent = IdempotentTool::new(RedisStore::new(redis))
//!     .every_write()
//!     .with_idempotency(Idempotency::new().with_ttl(Duration::from_secs(7 * 24 * 3600)).required_for(["pay"]))
//!     .with_lease(Duration::from_secs(60));
//! let server = (
//!     RetryTool::new(), // calls with a key are retried, although the tools are not annotated idempotent
//!     idempotent,
//! )
//!     .layer(server);
//! # Ok(()) }
//! ```
//!
//! # Example: a call of which nobody knows whether it took effect
//!
//! ```
//! use mcp_patterns::idempotency_keys::Resolution;
//! use mcp_patterns::idempotent::MemoryStore;
//! use mcp_patterns::{IdempotentTool, Layer, testing::ScriptedServer};
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//! # use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let bank = ScriptedServer::new("bank").with_plain("pay", |_| async { Err(McpError::timeout("The bank does not answer")) });
//! let idempotent = IdempotentTool::new(MemoryStore::new()).only(["pay"]);
//! let handle = idempotent.handle();
//! let server = idempotent.layer(bank.clone());
//!
//! let (ctx, pay) = (RequestContext::new(), json!({"to": "Ada", "idempotency_key": "9f1c"}));
//! server.call_tool("pay", pay.clone(), &ctx).await?;
//! let again = server.call_tool("pay", pay.clone(), &ctx).await?;
//! assert!(again.first_text().unwrap().contains("it may or may not have taken effect"));
//! assert_eq!(bank.calls("pay"), 1);
//!
//! // Somebody has looked at the account: the money is gone.
//! handle.resolve(&ctx, "pay", "9f1c", Resolution::Done(ToolResult::text("Paid"))).await.unwrap();
//! assert_eq!(server.call_tool("pay", pay, &ctx).await?.first_text(), Some("Paid"));
//! assert_eq!(bank.calls("pay"), 1);
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # What becomes of a call with a key
//!
//! | the key | the answer | is the call made? |
//! | --- | --- | --- |
//! | is new | the tool's own | yes |
//! | has an answer, same arguments | the first answer, `_meta["mcp-patterns/idempotency"] = "replayed"`, and `"mcp-patterns/other-connection"` where that is so | no |
//! | had an answer that was too large to be kept | `internal`, `"answer_not_kept"` | no |
//! | is missing where it is required, or has not the form of a key | `invalid_params`, `"key_missing"` or `"key_invalid"` | no |
//! | is new, and the caller's share of a [`MemoryStore`] is full | `server_overloaded`, `"overloaded"` | no |
//! | cannot be looked up, or claimed | `unavailable`, `"unavailable"` | no |
//! | has other arguments | `invalid_params`, `"key_reused"` | no |
//! | belongs to a call that runs | after a wait that call's answer, or `unavailable`, `"in_progress"` and `retryAfterMs` | no |
//! | belongs to an ambiguous call | `internal`, `"ambiguous"` | no, unless [asked for by name](IdempotentTool::run_again_when_ambiguous) |
//! | … that nobody resolved in the [chosen time](crate::idempotency_keys::Idempotency::with_final_refusal_after) | `internal`, `"unresolved"`, for the key's ttl | no |
//!
//! A call that fails is [not executed](crate::outcome::Failure::is_not_executed) where the failure proves that it took no effect:
//! it was refused (`invalid_params`, not found, not permitted, rejected by the user), or turned away (`rate_limited`,
//! `server_overloaded`, `unavailable`). Its key is free again, or keeps the failure with
//! [`recording_failures`](crate::idempotency_keys::Idempotency::recording_failures). Any other failure proves nothing and makes the call
//! ambiguous: a timeout, a broken connection, a failing service, an internal error, no kind at all; an error that `?` made of a
//! JSON or an IO error, which may have come after the effect whatever its kind; a refusal after retries further in.
//! [`with_not_executed`](IdempotentTool::with_not_executed) replaces the judgement: a tool that answers `unavailable` although it
//! may have done something needs that, unless that is only in its [session](crate::session#errors), which tells it.
//!
//! Ambiguous too is a call that panicked, and one whose process was not heard of for the time of a lease. An answer that comes after
//! all is recorded, unless the call has been resolved, taken over or refused for good: its first owner then changes nothing any more,
//! since each claim has a token of its own.
//!
//! # Ambiguous calls
//!
//! [`handle`](IdempotentTool::handle) lists them, a [page](crate::idempotency_keys::Handle::ambiguous) at a time: tool, key, age, and a few
//! digits that all calls of one caller share. Neither arguments nor names of callers are kept. Each is resolved as executed, with its
//! result, or as not executed; then the key is free.
//!
//! Without a chosen time, a call that nobody resolves stays ambiguous, and in the store. With
//! [`with_final_refusal_after`](crate::idempotency_keys::Idempotency::with_final_refusal_after), it is refused for good once it is asked for
//! after that time; the refusal is the answer to its key for the key's ttl, like any other, and is not taken back. One that nobody asks
//! for again is forgotten after the chosen time and a ttl, when the refusal would have been forgotten too.
//!
//! # Defaults
//!
//! - tools: none; name them, or take [`every_write`](IdempotentTool::every_write). A tool that no listing has had yet is
//!   [looked up](crate::guide::catalogues), and refused (tool not found, -32602) if its caller's listing does not have it, unless `only`
//!   leaves it out or [unlisted tools are allowed](IdempotentTool::allow_unlisted_tools)
//! - key: the optional argument `idempotency_key`, one for each [namespace](IdempotentTool::with_namespace), server,
//!   [version](crate::idempotency_keys::Idempotency::with_version), user ([identity](crate::Identity#defaults)) and tool; a key survives a token with other scopes; a call without one passes
//!   untouched
//! - an answer is remembered for 24 hours after it was given
//! - a lease is 30 s and renewed every 10 s while the tool runs; a call that runs waits for nobody and ends when it ends
//! - a duplicate waits for 5 s; it looks after 10 ms, then after pauses twice as long each time, up to half a second
//! - each step of a store may take 2 s
//! - a key has 1 to 255 characters
//! - [`MemoryStore`]: 100,000 claims and answers of 256 MiB, half of which one caller alone may hold
//!
//! # Order
//!
//! Outside: retries, so that a failed call is made again under its key; validation, so that bad arguments claim no key; a
//! cache has no place around a tool that writes. The key is an [argument of the layer](crate::arguments): validation further out
//! does not see it, and a handle that a layer further in takes does not make a call with the same key another one. A tool that
//! comes later and has an argument of its name takes no key, with a warning; at the start it is a mistake. Inside: what takes part
//! in the effect, a transaction too. See [the guide](crate::guide::ordering).
//!
//! A [`with_attempt_timeout`](crate::RetryTool::with_attempt_timeout) outside cuts the wait for a call, not the call: the next attempt
//! finds it running, and gets its answer if it comes in time; if not, whoever asks again gets it. Make that timeout longer than a call
//! usually takes. What is to stop a call itself belongs inside, where its end is known: a timeout of the client that the tool uses.
//!
//! # Errors
//!
//! All in the table above are results with `isError`; their `_meta["io.turbomcp/errorData"]` has the word under
//! `mcp-patterns/idempotency`. Texts that say that something is not available or not known have an id, under which the log has the error. `unavailable` and `server_overloaded` are temporary and made again by a
//! [`RetryTool`](crate::RetryTool) outside; the others are not. The tool's own failures keep their form, kind and text; one that
//! makes the call ambiguous is marked in its `_meta` (its data, where it is a protocol error).
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A call that is cancelled before it began does not begin, and a duplicate that is cancelled stops waiting, within 50 ms. One
//! that runs is not interrupted, since its end is worth knowing: its answer is recorded. If its caller is dropped, a task of its own
//! brings it to its end; so what the tool does must bound its own time, and task-locals of your own are not found there. If the tool
//! itself gives up, the call is ambiguous. So is one that is dropped inside a transaction, with which it ends.
//!
//! A caller who is dropped while the key is claimed leaves no claim.
//!
//! # When the backend fails
//!
//! Environments that share a store, such as staging and production, each need a
//! [`with_namespace`](IdempotentTool::with_namespace) of their own, or a key that was used in one has its answer in the other.
//!
//! It fails closed. A store that is down, too slow or answers what nobody understands before the call: the tool is not called,
//! the answer is `unavailable`, and a claim that was made all the same is taken back. Calls without a key need no store. Over a
//! [`RedisConnection`](crate::RedisConnection), a Redis that has fallen silent is connected to anew; other connections have
//! [limits](crate::RedisConnection#other-connections).
//!
//! A [`MemoryStore`] drops no claim, and no answer before its time: neither for room, nor for another caller. Each caller has a
//! share of it, and each anonymous connection a part of the share that all of them have together. Where that is full, new keys are
//! refused with `server_overloaded` until answers expire or ambiguous calls are
//! [resolved](crate::idempotency_keys::Handle::resolve). An answer that is too large for the share is given to its caller, marked `"not_recorded"`; the call is not made again. Stores that are shared bound no
//! number: bound the rate of calls.
//!
//! A pool that tools use up does not end the lease of a call that runs: a [`SqlStore`] keeps a connection for that. See [how large a
//! pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be).
//!
//! A store that loses its last writes, as **a Redis does when it fails over**, or a PostgreSQL whose standby lags, forgets claims: a
//! call that had one may be made a second time. [`RedisStore::with_replicas`](RedisStore#failover) keeps that from happening where the replica that takes over has
//! acknowledged the claim.
//!
//! After the call: recording is tried four times within some seconds. The caller waits for 2 s of it and gets the tool's true
//! answer, marked `"not_recorded"`. If it was in vain, the claim stays, and later duplicates find it ambiguous.
//!
//! # What is counted and logged
//!
//! The counter (feature `metrics`) `mcp_patterns_idempotency_total` by `tool` and `outcome`: `recorded`, `replayed`, `released`
//! (not executed), `ambiguous`, `unresolved`, `not_recorded`, `in_progress`, `refused`, `cancelled`, `unavailable`, `overloaded`. Each
//! call with a key logs an event (debug) with `tool` and `idempotency`; what needs somebody's attention is logged as a warning,
//! with a hash of the key, never the key itself: [`AmbiguousCall::key_hash`](crate::idempotency_keys::AmbiguousCall::key_hash) is the same.
//! A store that fails is logged at most once in ten seconds with a count of the rest, and one that works again as an information.

mod backend;
mod claims;
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
pub use self::redis::RedisStore;
pub use backend::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
pub use layer::IdempotentTool;
pub use memory::MemoryStore;
#[cfg(feature = "transactional")]
#[cfg_attr(docsrs, doc(cfg(feature = "transactional")))]
pub use sql::SqlStore;

#[cfg(test)]
mod tests;
