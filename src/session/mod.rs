//! Keeps what a client told a server until its next call, on any replica: [`SessionStore`].
//!
//! It is three things in one. As a layer it finds the session that a call belongs to, and refuses a call that has none; in the
//! tool, [`Session::current`] is that session; and without a layer, [`SessionStore::of`] finds it. No write is lost, however many
//! calls and replicas write at the same time, and a session is seen by nobody but the principal who opened it.
//!
//! Use it for what belongs to a conversation: preferences, a basket, a cursor, a draft. What must outlive the conversation, or be
//! searched, belongs in tables of your own: see [the guide](crate::guide::sessions).
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let server = SessionStore::in_memory().layer(Preferences);
//!
//! // Every transport gives a connection an id; here it is given by hand.
//! let (ada, bob) = (RequestContext::new().with_session_id("1"), RequestContext::new().with_session_id("2"));
//! let dark = serde_json::json!({"key": "theme", "value": "dark"});
//! server.call_tool("set_preference", dark, &ada).await?;
//!
//! let theme = serde_json::json!({"key": "theme"});
//! assert_eq!(server.call_tool("get_preference", theme.clone(), &ada).await?.first_text(), Some("dark"));
//! assert_eq!(server.call_tool("get_preference", theme, &bob).await?.first_text(), Some("Preference not found"));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Example: several replicas on one Redis, a session for each user
//!
//! ```no_run
//! # #[cfg(feature = "redis")] async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use mcp_patterns::{Layer, RedisConnection, SessionStore, session::SessionMode};
//! # let server = mcp_patterns::testing::ScriptedServer::new("preferences");
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
//! use mcp_patterns::{Layer, SessionStore, session::{Session, SessionMode}, testing::ScriptedServer};
//! # use turbomcp::{McpError, McpHandler, RequestContext, ToolResult};
//! # use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let shop = ScriptedServer::new("shop").with_plain("add", |_| async {
//!     let session = Session::current()?;
//!     let items = session.update("items", |items: &mut u32| { *items += 1; *items }).await?;
//!     Ok(ToolResult::text(items.to_string()))
//! });
//! let server = SessionStore::in_memory().with_mode(SessionMode::Handle).layer(shop);
//!
//! // The layer has added `open_session` and `close_session`, and the argument `session` to the other tools.
//! let ctx = RequestContext::new();
//! let opened = server.call_tool("open_session", json!({}), &ctx).await?;
//! let basket = json!({"session": opened.first_text()});
//! let calls = (0..100).map(|_| server.call_tool("add", basket.clone(), &ctx));
//! futures_util::future::join_all(calls).await;
//! assert_eq!(server.call_tool("add", basket, &ctx).await?.first_text(), Some("101"));
//!
//! let made_up = server.call_tool("add", json!({"session": "mine"}), &ctx).await?;
//! assert!(made_up.first_text().unwrap().starts_with("There is no such session"));
//! # Ok::<(), McpError>(()) }).unwrap();
//! ```
//!
//! # Which session
//!
//! | [`SessionMode`] | what names a session | survives a new connection | survives another replica | without it |
//! | --- | --- | --- | --- | --- |
//! | `Transport` (default) | the transport's session: a connection, or an `mcp-session-id` | no | no | refused |
//! | `Principal` | the user who has signed in | yes | yes | refused: nobody in particular has none |
//! | `Handle` | an argument, which the tool `open_session` made | yes | yes | refused, and told to open one |
//!
//! Whatever names it, a session belongs to the principal who opened it (subject, issuer and tenants, or what your
//! [`Identity`](crate::Identity) says); for every other it does not exist, also if they know its name. The rights of a token do not count, so that
//! a session survives a token with other scopes. Never is it the request's id, which changes with each call, nor anything that a client says
//! of itself. turbomcp's HTTP transport knows only the sessions that it opened itself: on another replica, or after a restart, it
//! answers 404, and the client begins a new session, which in `Transport` mode is an empty one. So that mode needs sticky routing
//! by `mcp-session-id`; the others do not need it for their data, only for the transport's sake. See [the
//! guide](crate::guide::sessions#what-survives).
//!
//! # What a write costs, and why none is lost
//!
//! A session is one record with a version, replaced only if it still has the version that was read. Where somebody else came
//! first, the change is applied again to what is there now. The writers of one process take turns, so that they are in each
//! other's way only across processes, and each process remembers what it wrote last: a read is one round trip, and so is a write,
//! unless another process has written, or nobody yet; then it is two. [`Session::load`] and [`Draft::commit`] share one read and
//! one write among several operations.
//!
//! # Defaults
//!
//! - tools: every one, also one that no listing has had yet; calls without a session are refused, unless [`optional`](SessionStore::optional)
//! - mode: [`SessionMode::Transport`]; the argument of a handle is `session`; a handle is 128 random bits
//! - idle timeout: 1 hour, sliding with reads and writes, noted every tenth of it at most; absolute timeout: 24 hours
//! - limits: 64 KiB and 256 keys for each session; in memory, 100,000 sessions of 256 MiB, half of which one caller alone may hold,
//!   and all anonymous callers together
//! - each step of a backend may take 2 s; a change is tried 64 times at most
//! - namespace: the server's name; identity: [the defaults](crate::Identity#defaults)
//!
//! No session makes room for another. Each caller has a [share](MemoryBackend) of what there is in memory, and each anonymous
//! connection a part of the share that all of them have together; where that is full, new sessions and larger values are refused. Shared
//! backends bound no number of sessions: a client may open as many as your limits on calls allow.
//!
//! # Order
//!
//! Outside: validation, which does not see the handle ([an argument of the layer](crate::arguments)), and whatever decides who may
//! call what. A tool that comes later and has an argument of the handle's name has no session, with a warning; at the start it is
//! a mistake. Inside: everything else. A cache must be inside, or a hit would get
//! around the refusal of a call without a session; it then keeps no result of a tool that opened its session, unless its scope is
//! [`Scope::Session`](crate::Scope::Session). A transaction is inside too, and does not roll a session back, unless both are on one
//! pool and [that is asked for](SqlBackend::in_transactions). The session is found
//! through the call's own task: in a task that the tool spawns, use a [`Session`] that was got before. See [the
//! guide](crate::guide::ordering).
//!
//! # Errors
//!
//! [`SessionError`] in the tool; `?` makes an error result of it, whose `_meta["io.turbomcp/errorData"]` has a word under
//! `mcp-patterns/session`:
//!
//! | word | kind | |
//! | --- | --- | --- |
//! | `none` | `invalid_request`, `authentication`, `invalid_params` | the call has no session: by transport, principal, handle |
//! | `unknown` | `invalid_params` | there is no session under this handle, for this caller |
//! | `full` | `invalid_request` | a limit; nothing was changed |
//! | `no_room` | `server_overloaded` | the caller's share of the sessions in memory is full; nothing was changed |
//! | `conflict` | `unavailable` | others came first at each try; nothing was changed |
//! | `waits_for_itself` | `internal` | the tool's transaction holds the only connection of the pool that both share, or on SQLite the right to write; nothing was changed |
//! | `unavailable` | `unavailable` | the backend fails, or refuses to write (no memory, a full disk, a replica); nothing was changed |
//! | `unknowable` | `internal` | the backend was lost while it wrote: the change may have been kept |
//! | `undecodable`, `unencodable` | `internal` | a value is not what the tool asks for, or cannot be written as JSON; the text names its key |
//! | `no_layer`, `not_renewable`, `arguments` | `internal`, `internal`, `invalid_params` | no layer acts on the tool; the session has no handle; `open_session` takes no arguments |
//!
//! The texts of `unavailable` and `unknowable` have an id, under which the log has the error. For an
//! [`IdempotentTool`](crate::IdempotentTool), `unavailable` proves that nothing was done, and `unknowable` does not. A
//! [`RetryTool`](crate::RetryTool) makes a call that ended with either again if its tool is idempotent, or it carries a key. A
//! [`BackendError`] of your own backend says which of the two it is: [`new`](BackendError::new), or
//! [`not_taken`](BackendError::not_taken).
//!
//! A setting that cannot work is a [`ConfigError`](crate::ConfigError) when the layer is put on.
//!
//! # Cancellation
//!
//! A call that is dropped leaves the turn to the next; a write that it had sent may have been kept. The note that a session is in
//! use is sent from a task of its own, and no answer waits for it.
//!
//! # When the backend fails
//!
//! Environments that share a backend, such as staging and production, each need a
//! [`with_namespace`](SessionStore::with_namespace) of their own, or users find in one what they left in the other.
//!
//! It fails closed: down, slow or answering what nobody understands, it is never taken for an empty session. Calls that use their
//! session get `unavailable` within the [time of a step](SessionStore::with_backend_timeout), also those that wait for a turn: a
//! writer waits for as long as the backend answers those before it, and for the time of one step once it does not. A write whose
//! answer takes more than a quarter of that time passes its turn on, so one slow answer fails at most the call that waits for it.
//! What was acknowledged is as safe as the
//! backend keeps it: **a Redis that fails over loses its last writes**, unless
//! [`RedisBackend::with_replicas`](RedisBackend#failover) waits for the replicas. Calls that do not use their session do not notice. It is asked anew by every call, so it is back when it is
//! back.
//!
//! Over a [`RedisConnection`](crate::RedisConnection), a Redis that has fallen silent is connected to anew; other connections have
//! [limits](crate::RedisConnection#other-connections).
//!
//! A [`SqlBackend`] may share its pool with transactions: these leave it a connection, so that a tool that uses its session inside of
//! one never waits for another tool. See [how large a pool has to be](crate::guide::transactions#how-large-a-pool-has-to-be).
//!
//! # Clocks
//!
//! The clock of the backend alone decides how long a session lives. The wall clock of a server is never read: it may be wrong by days, and
//! it may be set while the server runs. No session ends sooner or later for that, and no sweep deletes one that lives.
//!
//! | backend | the clock of both timeouts | if that is set forward or back |
//! | --- | --- | --- |
//! | [`MemoryBackend`] | the monotonic clock of the process | it cannot be set; it may stand still while the machine sleeps |
//! | `RedisBackend` | that of Redis | sessions end sooner or later by as much |
//! | `SqlBackend`, PostgreSQL | that of the server (`clock_timestamp()`) | the same |
//! | `SqlBackend`, SQLite | that of the machine, which all processes on the file share | the same |
//!
//! So one clock has to be right, that of the backend. A failover to a server whose clock differs has the effect of setting it by the
//! difference. A [`Backend`] of yours is handed durations only, and measures them by the clock that its replicas share.
//!
//! # What is counted and logged
//!
//! The counters (feature `metrics`) `mcp_patterns_session_operations_total` by `outcome` (`read`, `written`, `conflicted`, `full`,
//! `unavailable`, `refused`). A backend that fails is logged as a warning, at most once in ten seconds with a count of the rest, and
//! one that works again as an information; each call that fails for it is logged with the id that its caller reads. No id, no
//! handle and no value is logged; ids are hashed before they leave the process.

mod backend;
mod data;
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
