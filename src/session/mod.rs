//! Keeps the data of a client until its next call, on any replica: [`SessionStore`].
//!
//! As a layer, it finds the session of a call, and refuses a call that has none. In the tool, [`Session::current`] returns that
//! session. Without the layer, [`SessionStore::of`] finds it. Concurrent writes to a session are never lost, however many calls and
//! replicas write, and no principal but the one who opened a session can read it.
//!
//! Use it for the data of a conversation: preferences, a basket, a cursor, a draft. Data that must outlive the conversation, or be
//! searched, belongs in tables of your own: see [the guide](crate::guide::sessions).
//!
//! # Dependencies
//!
//! The examples of this page go [into a `main`](crate::guide#how-to-run-an-example), and need:
//!
//! ```sh
//! cargo add mcp-patterns --features testing,redis
//! cargo add turbomcp serde_json futures-util async-trait
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! Sessions in SQL need the feature `sqlite` or `postgres`, and `sqlx@0.9`. A connection to Redis of your own
//! ([`from_redis_1`](crate::AnyRedisConnection::from_redis_1)) needs `redis@1.8`.
//!
//! # Example
//!
//! ```
//! use mcp_patterns::{Layer, SessionStore, session::Session};
//! use turbomcp::prelude::*;
//!
//! #[derive(Clone)]
//! struct Preferences;
//!
//! #[server(name = "preferences", version = "1.0.0")]
//! impl Preferences {
//!     /// Keeps a preference.
//!     #[tool]
//!     async fn set_preference(&self, key: String, value: String) -> McpResult<String> {
//!         Session::current()?.set(&key, &value).await?;
//!         Ok(format!("Set {key}: {value}"))
//!     }
//!
//!     /// Reads a preference.
//!     #[tool(read_only = true)]
//!     async fn get_preference(&self, key: String) -> McpResult<String> {
//!         let value: Option<String> = Session::current()?.get(&key).await?;
//!         value.ok_or_else(|| McpError::invalid_request("Preference not found"))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = SessionStore::in_memory().layer(Preferences);
//!
//! // Every transport gives a connection an id. Here the example sets it.
//! let (ada, bob) = (
//!     RequestContext::new().with_session_id("1"),
//!     RequestContext::new().with_session_id("2"),
//! );
//! let dark = serde_json::json!({"key": "theme", "value": "dark"});
//! server.call_tool("set_preference", dark, &ada).await?;
//!
//! let theme = serde_json::json!({"key": "theme"});
//! assert_eq!(
//!     server.call_tool("get_preference", theme.clone(), &ada).await?.first_text(),
//!     Some("dark")
//! );
//! assert_eq!(
//!     server.call_tool("get_preference", theme, &bob).await?.first_text(),
//!     Some("Preference not found")
//! );
//! # Ok(()) }
//! ```
//!
//! # Example: several replicas on one Redis, a session for each user
//!
//! ```no_run
//! use std::time::Duration;
//! use mcp_patterns::{Layer, RedisConnection, SessionStore, session::SessionMode};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = mcp_patterns::testing::ScriptedServer::new("preferences");
//!
//! let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
//! let sessions = SessionStore::redis(redis)
//!     .with_mode(SessionMode::Principal)
//!     .with_idle_timeout(Duration::from_secs(7 * 24 * 3600))
//!     .without_absolute_timeout();
//! let server = sessions.layer(server);
//! # Ok(()) }
//! ```
//!
//! # Example: sessions that the model opens, and many calls that write at once
//!
//! ```
//! use mcp_patterns::{
//!     Layer, SessionStore,
//!     session::{Session, SessionMode},
//!     testing::ScriptedServer,
//! };
//! use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//! use serde_json::json;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shop = ScriptedServer::new("shop").with_plain("add", |_| async {
//!     let session = Session::current()?;
//!     let items = session
//!         .update("items", |items: &mut u32| {
//!             *items += 1;
//!             *items
//!         })
//!         .await?;
//!     Ok(ToolResult::text(items.to_string()))
//! });
//! let server = SessionStore::in_memory().with_mode(SessionMode::Handle).layer(shop);
//!
//! // The layer has added the tools `open_session` and `close_session`, and the argument
//! // `session` to the other tools.
//! let ctx = RequestContext::new();
//! let opened = server.call_tool("open_session", json!({}), &ctx).await?;
//! let basket = json!({"session": opened.first_text()});
//! let calls = (0..100).map(|_| server.call_tool("add", basket.clone(), &ctx));
//! futures_util::future::join_all(calls).await;
//! assert_eq!(server.call_tool("add", basket, &ctx).await?.first_text(), Some("101"));
//!
//! let made_up = server.call_tool("add", json!({"session": "mine"}), &ctx).await?;
//! assert!(made_up.first_text().unwrap().starts_with("There is no such session"));
//! # Ok(()) }
//! ```
//!
//! # Example: a backend of your own
//!
//! A [`Backend`] is an `#[async_trait]` trait with five steps. [`session_backend_contract`](crate::testing::session_backend_contract)
//! checks them.
//!
//! ```
//! use std::time::Duration;
//! use async_trait::async_trait;
//! use mcp_patterns::SessionStore;
//! use mcp_patterns::session::{Backend, BackendError, MemoryBackend, Record, Write, Written};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! /// Logs each deletion, and leaves the rest to a backend of this crate.
//! struct Audited(MemoryBackend);
//!
//! #[async_trait]
//! impl Backend for Audited {
//!     async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
//!         self.0.create(id, write).await
//!     }
//!
//!     async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
//!         self.0.load(id).await
//!     }
//!
//!     async fn compare_and_swap(
//!         &self,
//!         id: &str,
//!         expected: u64,
//!         write: Write<'_>,
//!     ) -> Result<Written, BackendError> {
//!         self.0.compare_and_swap(id, expected, write).await
//!     }
//!
//!     async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
//!         self.0.touch(id, ttl).await
//!     }
//!
//!     async fn delete(
//!         &self,
//!         id: &str,
//!         expected: Option<u64>,
//!     ) -> Result<bool, BackendError> {
//!         let is_deleted = self.0.delete(id, expected).await?;
//!         eprintln!("session {id} deleted: {is_deleted}");
//!         Ok(is_deleted)
//!     }
//! }
//!
//! let sessions = SessionStore::new(Audited(MemoryBackend::new()));
//! mcp_patterns::testing::session_backend_contract(|| async {
//!     Audited(MemoryBackend::new())
//! })
//! .await;
//! # Ok(()) }
//! ```
//!
//! # Which session
//!
//! | [`SessionMode`] | a session is identified by | survives a new connection | survives another replica | a call without it |
//! | --- | --- | --- | --- | --- |
//! | `Transport` (default) | the transport's session: a connection, or an `mcp-session-id` | no | no | is refused |
//! | `Principal` | the authenticated user | yes | yes | is refused, also every anonymous call |
//! | `Handle` | an argument, which the tool `open_session` returned | yes | yes | is refused, with the advice to open one |
//!
//! In every mode, a session belongs to the principal who opened it (subject, issuer and tenants, or what your
//! [`Identity`](crate::Identity) returns). For every other principal it does not exist, even if they know its id. The rights of a token do
//! not count, so that a session survives a token with other scopes. The id of the request never identifies a session, since it
//! changes with each call, nor does anything that a client states about itself.
//!
//! turbomcp's HTTP transport knows only the sessions that it opened itself. On another replica, or after a restart, it responds
//! with 404, and the client begins a new session, which in `Transport` mode is an empty one. So `Transport` mode needs sticky routing
//! by `mcp-session-id`. The other modes need it only for the transport, not for their data. See [the
//! guide](crate::guide::sessions#what-survives).
//!
//! # What a write costs, and why no write is lost
//!
//! A session is one record with a version, which is replaced only if it still has the version that was read. Where another writer was
//! first, the change is applied again to the current record. The writers of one process wait for each other in a queue, so that
//! conflicts come only from other processes. Each process remembers the record that it wrote last. So a read is one round trip, and so
//! is a write, unless another process has written, or the session is new; then a write takes two. [`Session::load`] and
//! [`Draft::commit`] share one read and one write among several operations.
//!
//! # Defaults
//!
//! - tools: every tool, also one that has not been listed yet; a call without a session is refused, unless the store is
//!   [`optional`](SessionStore::optional)
//! - mode: [`SessionMode::Transport`]; the argument of a handle is `session`; a handle is 128 random bits
//! - idle timeout: 1 hour, extended by reads and writes, reported to the backend at most every tenth of it; absolute timeout: 24 hours
//! - limits: 64 KiB and 256 keys for each session; in memory, 100,000 sessions of 256 MiB together, of which one caller alone may
//!   hold half, and all anonymous callers together as much as one caller
//! - each step of a backend may take 2 s; a change is attempted at most 64 times
//! - namespace: the server's name; identity: [the defaults](crate::Identity#defaults)
//!
//! No session is dropped to make room for another. In memory, each caller has a [share](MemoryBackend) of the room, and each anonymous
//! connection a part of the share of all anonymous callers. Where a share is full, new sessions and larger values are refused. Shared
//! backends do not bound the number of sessions: a client may open as many as your limits on calls allow.
//!
//! # Order
//!
//! Outside of this layer: validation, which does not see the handle ([an argument of the layer](crate::arguments)), and authorization of
//! calls. Inside: everything else.
//!
//! - A cache must be inside, or a hit would bypass the refusal of a call without a session. It then keeps no result of a tool that
//!   opened its session, unless its scope is [`Scope::Session`](crate::Scope::Session).
//! - A transaction must be inside. It does not roll a session back, unless both are on one pool and the backend is
//!   [`in_transactions`](SqlBackend::in_transactions).
//! - A tool that is added later and has an argument with the handle's name has no session, and a warning is logged. At the start, such
//!   a tool is a [`ConfigError`](crate::ConfigError).
//!
//! The session is found through the task of the call: in a task that the tool spawns, use a [`Session`] that was obtained before. See
//! [the guide](crate::guide::ordering).
//!
//! # Errors
//!
//! The tool gets a [`SessionError`]. `?` converts it into an error result, whose `_meta["io.turbomcp/errorData"]` has a word under
//! `mcp-patterns/session`:
//!
//! | word | kind | meaning |
//! | --- | --- | --- |
//! | `none` | `invalid_request`, `authentication`, `invalid_params` | the call has no session: by transport, principal, handle |
//! | `unknown` | `invalid_params` | this caller has no session under this handle |
//! | `full` | `invalid_request` | a limit of the session; nothing was changed |
//! | `no_room` | `server_overloaded` | the caller's share of the sessions in memory is full; nothing was changed |
//! | `conflict` | `unavailable` | other writers were first at each attempt; nothing was changed |
//! | `waits_for_itself` | `internal` | the tool's own transaction holds the only connection of the pool that both share, or on SQLite the write lock; nothing was changed |
//! | `no_table` | `internal` | the database has no [table](SESSION_SCHEMA) for sessions; nothing was changed. The text names the function that creates it |
//! | `unavailable` | `unavailable` | the backend fails, or refuses to write (no memory, a full disk, a replica); nothing was changed |
//! | `outcome_unknown` | `internal` | the connection to the backend was lost during a write: the change may have been kept |
//! | `undecodable`, `unencodable` | `internal` | a value does not have the type that the tool asks for, or cannot be written as JSON; the text names its key |
//! | `unknown_caller` | `configuration` | by principal: the request has credentials, but the [server of rmcp](crate::guide::with_rmcp#principals) does not say whose they are |
//! | `no_layer`, `not_renewable`, `arguments` | `internal`, `internal`, `invalid_params` | no layer acts on the tool, or the code runs in a spawned task; the session has no handle; `open_session` takes no arguments |
//!
//! The texts of `unavailable` and `outcome_unknown` have an id, and the log has the error under this id. For an
//! [`IdempotentTool`](crate::IdempotentTool), `unavailable` proves that nothing was done, and `outcome_unknown` does not. A
//! [`RetryTool`](crate::RetryTool) repeats a call that ended with either, if its tool is idempotent or the call has a key. A
//! [`BackendError`] of your own backend states which of the two it is: [`new`](BackendError::new) for a step that may have taken
//! effect, or [`not_taken`](BackendError::not_taken).
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on a server. If the table is missing, the
//! server does not start: `on_initialize` fails, and its text names [`ensure_schema`](SqlBackend::ensure_schema).
//!
//! # Cancellation
//!
//! A call that is dropped passes its turn in the queue on. A write that it had sent may have been kept. The report that a session is in
//! use runs in a task of its own, and no answer waits for it.
//!
//! # When the backend fails
//!
//! Environments that share a backend, such as staging and production, each need their own
//! [`with_namespace`](SessionStore::with_namespace), or users of one find the sessions of the other.
//!
//! The store fails closed: a backend that is down, slow or returns an unreadable record never counts as an empty session. Calls that use
//! their session get `unavailable` within the [backend timeout](SessionStore::with_backend_timeout), also those that wait in the queue:
//! a writer waits as long as the backend answers the writers before it, and for one backend timeout once it does not. A write whose
//! answer takes more than a quarter of that time passes its turn on, so one slow answer fails at most the call that waits for it.
//! Calls that do not use their session are not affected. Every call asks the backend again, so sessions work again as soon as the
//! backend does.
//!
//! Acknowledged writes are as safe as the backend keeps them: **a Redis that fails over loses its last writes**, unless
//! [`RedisBackend::with_replicas`](RedisBackend#failover) waits for the replicas.
//!
//! A [`RedisConnection`](crate::RedisConnection) replaces a connection to a Redis that no longer answers. Other connections have
//! [limits](crate::RedisConnection#other-connections).
//!
//! A [`SqlBackend`] may share its pool with transactions. They leave it a connection, so that a tool that uses its session inside a
//! transaction never waits for another tool. See [how large a pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be).
//!
//! # Clocks
//!
//! Only the clock of the backend decides how long a session lives. The store never reads the wall clock of a server, which may be wrong
//! by days, or be set while the server runs. So a wrong clock of a server ends no session sooner or later, and no sweep deletes a live
//! one.
//!
//! | backend | the clock of both timeouts | effect of setting it forward or back |
//! | --- | --- | --- |
//! | [`MemoryBackend`] | the monotonic clock of the process | it cannot be set; it may stand still while the machine sleeps |
//! | `RedisBackend` | that of Redis | sessions end sooner or later by as much |
//! | `SqlBackend`, PostgreSQL | that of the server (`clock_timestamp()`) | the same |
//! | `SqlBackend`, SQLite | that of the machine, which all processes on the file share | the same |
//!
//! So one clock has to be right, that of the backend. A failover to a server whose clock differs has the effect of setting the clock by
//! the difference. A [`Backend`] of your own receives only durations, and measures them by the clock that its replicas share.
//!
//! # What is counted and logged
//!
//! The counter `mcp_patterns_session_operations_total` (feature `metrics`) counts operations by `outcome` (`read`, `written`, `conflicted`,
//! `full`, `unavailable`, `refused`). A failing backend is logged as a warning, at most once in ten seconds with a count of the rest,
//! and its recovery as an information. Each call that fails for it is logged with the id that its caller reads. No id of a session, no
//! handle and no value is logged, and ids are hashed before they leave the process.

mod backend;
mod data;
mod describe;
mod engine;
mod error;
mod handle;
mod key;
mod layer;
mod memory;
mod mode;
mod records;
#[cfg(feature = "redis")]
mod redis;
#[expect(clippy::module_inception, reason = "a session is what the module is about")]
mod session;
mod settings;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod store;
mod touches;
mod write_queue;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisBackend;
pub use backend::{Backend, BackendError, Opener, Record, Write, Written};
pub use data::Data;
pub use error::SessionError;
pub use memory::MemoryBackend;
pub use mode::SessionMode;
pub use session::{Draft, Session};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use sql::{SESSION_SCHEMA, SessionDatabase, SqlBackend};
pub use store::SessionStore;

#[doc(inline)]
pub use crate::outcome::SESSION;

#[cfg(test)]
mod tests;
