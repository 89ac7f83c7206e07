//! Stores for the HTTP transport of rmcp, the official Rust SDK, so that any replica can serve a client: [`SessionStates`],
//! [`RedisEventStore`], [`SqlEventStore`], and the [`ReplicaSessionManager`] that uses the last two.
//!
//! rmcp keeps the sessions of its HTTP transport, and the streams of its answers, in the memory of one process. On another replica, or
//! after a restart, a request of the same client gets 404, and a connection that was cut loses its answer. rmcp has two traits to change
//! that, and no implementation of them:
//!
//! | rmcp's trait | what it keeps | here |
//! | --- | --- | --- |
//! | `SessionStore` | the parameters of each client's `initialize` | [`SessionStates`], on every [`session::Backend`](crate::session::Backend) |
//! | `EventStore` | the events of each stream, for a client that comes back with `Last-Event-ID` | [`RedisEventStore`], [`SqlEventStore`] |
//!
//! [`ReplicaSessionManager`] takes the place of rmcp's `LocalSessionManager`. It has the event store, and ends the calls of
//! [a process that dies](#a-process-that-dies).
//!
//! Use both where a server has several replicas, or must not lose its clients when it restarts. They work with any `ServerHandler`, with
//! layers or without. A server with one process that may forget its clients needs neither, and neither does one whose clients all speak
//! the protocol 2026-07-28, which has no sessions: see [the protocol](#the-protocol-2026-07-28).
//!
//! # Dependencies
//!
//! The examples of this page need:
//!
//! ```sh
//! cargo add mcp-patterns --features rmcp,session,sqlite,redis
//! cargo add rmcp@3.11 --features transport-streamable-http-server
//! cargo add axum serde_json sqlx@0.9
//! cargo add tower --features util
//! cargo add tokio --features macros,rt-multi-thread
//! ```
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use mcp_patterns::rmcp_stores::{ReplicaSessionManager, SessionStates, SqlEventStore};
//! use mcp_patterns::session::SqlBackend;
//! use rmcp::ServerHandler;
//! use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
//! use sqlx::SqlitePool;
//! use sqlx::sqlite::SqlitePoolOptions;
//!
//! #[derive(Clone)]
//! struct MyServer;
//!
//! impl ServerHandler for MyServer {}
//!
//! type Service = StreamableHttpService<MyServer, ReplicaSessionManager>;
//!
//! /// Creates a replica. All of them use one database.
//! async fn replica(pool: &SqlitePool) -> Result<Service, Box<dyn std::error::Error>> {
//!     let sessions = SessionStates::new(SqlBackend::new(pool.clone()));
//!     let events = SqlEventStore::new(pool.clone());
//!     sessions.check_storage().await?; // rmcp does not check settings or tables
//!     events.check_storage().await?;
//!
//!     let manager = ReplicaSessionManager::new(events);
//!     let mut config = StreamableHttpServerConfig::default();
//!     config.session_store = Some(Arc::new(sessions));
//!     Ok(StreamableHttpService::new(|| Ok(MyServer), Arc::new(manager), config))
//! }
//!
//! fn post(session: &str, json: serde_json::Value) -> Request<Body> {
//!     Request::post("http://localhost/mcp")
//!         .header("host", "localhost")
//!         .header("accept", "application/json, text/event-stream")
//!         .header("content-type", "application/json")
//!         .header("mcp-session-id", session)
//!         .body(Body::from(json.to_string()))
//!         .unwrap()
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool =
//!     SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
//! SqlBackend::ensure_schema(&pool).await?;
//! SqlEventStore::ensure_schema(&pool).await?;
//! let (one, two) = (replica(&pool).await?, replica(&pool).await?);
//!
//! let initialize = serde_json::json!({
//!     "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
//!         "protocolVersion": "2025-06-18",
//!         "capabilities": {},
//!         "clientInfo": {"name": "me", "version": "1"},
//!     },
//! });
//! let mut first = post("", initialize);
//! first.headers_mut().remove("mcp-session-id");
//! let opened = one.handle(first).await;
//! let session = opened.headers()["mcp-session-id"].to_str()?;
//!
//! // The other replica serves the session, too.
//! let ping = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
//! assert_eq!(two.handle(post(session, ping.clone())).await.status(), StatusCode::OK);
//! let unknown = two.handle(post("made up", ping)).await;
//! assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
//! # Ok(()) }
//! ```
//!
//! # Example: on Redis
//!
//! ```no_run
//! use std::time::Duration;
//! use mcp_patterns::RedisConnection;
//! use mcp_patterns::rmcp_stores::{ReplicaSessionManager, RedisEventStore, SessionStates};
//! use mcp_patterns::session::RedisBackend;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
//! let sessions = SessionStates::new(RedisBackend::new(redis.clone()));
//! let events = RedisEventStore::new(redis).with_ttl(Duration::from_secs(2 * 3600));
//! let manager = ReplicaSessionManager::new(events);
//! # Ok(()) }
//! ```
//!
//! # Example: only the owner uses a session
//!
//! rmcp serves a session to everybody who knows its id, and resumes a stream for everybody who knows the id of one of its events. It
//! checks no user. A server with users needs a check in front of it, on each request. Here it is a middleware of axum.
//! [`claim`](SessionStates::claim) makes the user who opens a session its owner, and [`is_owner`](SessionStates::is_owner) finds it on
//! every replica.
//!
//! ```
//! use std::sync::Arc;
//! use axum::Router;
//! use axum::body::Body;
//! use axum::extract::{Request, State};
//! use axum::http::{HeaderMap, Method, StatusCode};
//! use axum::middleware::{Next, from_fn_with_state};
//! use axum::response::{IntoResponse, Response};
//! use mcp_patterns::rmcp_stores::SessionStates;
//! use mcp_patterns::session::MemoryBackend;
//! use rmcp::ServerHandler;
//! use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
//! use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
//! use tower::ServiceExt;
//!
//! type Sessions = Arc<SessionStates<MemoryBackend>>; // with replicas, a shared backend
//!
//! /// Your authentication: the user, and `None` for a request that is not authenticated.
//! fn user(headers: &HeaderMap) -> Option<&str> {
//!     match headers.get("authorization")?.to_str().ok()? {
//!         "Bearer token-of-ada" => Some("ada"),
//!         "Bearer token-of-bob" => Some("bob"),
//!         _ => None,
//!     }
//! }
//!
//! fn session(headers: &HeaderMap) -> Option<String> {
//!     Some(headers.get("mcp-session-id")?.to_str().ok()?.to_owned())
//! }
//!
//! async fn only_own_sessions(
//!     State(sessions): State<Sessions>,
//!     request: Request,
//!     next: Next,
//! ) -> Response {
//!     let Some(user) = user(request.headers()).map(str::to_owned) else {
//!         return StatusCode::UNAUTHORIZED.into_response();
//!     };
//!     let used = session(request.headers());
//!     if let Some(used) = &used {
//!         match sessions.is_owner(used, &user).await {
//!             Ok(true) => {}
//!             // For everybody else, the session does not exist.
//!             Ok(false) => return StatusCode::NOT_FOUND.into_response(),
//!             Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
//!         }
//!     } else if request.method() == Method::GET {
//!         // Without a session, the id of an event alone says what is resumed.
//!         return StatusCode::METHOD_NOT_ALLOWED.into_response();
//!     }
//!     let response = next.run(request).await;
//!     if used.is_none()
//!         && let Some(opened) = session(response.headers())
//!         && !matches!(sessions.claim(&opened, &user).await, Ok(true))
//!     {
//!         return StatusCode::SERVICE_UNAVAILABLE.into_response();
//!     }
//!     response
//! }
//!
//! #[derive(Clone)]
//! struct MyServer;
//!
//! impl ServerHandler for MyServer {}
//!
//! fn post(user: &str, json: serde_json::Value) -> Request {
//!     Request::post("http://localhost/mcp")
//!         .header("host", "localhost")
//!         .header("authorization", format!("Bearer token-of-{user}"))
//!         .header("accept", "application/json, text/event-stream")
//!         .header("content-type", "application/json")
//!         .body(Body::from(json.to_string()))
//!         .unwrap()
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sessions: Sessions = Arc::new(SessionStates::new(MemoryBackend::new()));
//! let mut config = StreamableHttpServerConfig::default();
//! config.session_store = Some(sessions.clone());
//! let manager = Arc::new(LocalSessionManager::default());
//! let mcp = StreamableHttpService::new(|| Ok(MyServer), manager, config);
//! let app = Router::new()
//!     .fallback_service(mcp)
//!     .layer(from_fn_with_state(sessions, only_own_sessions));
//!
//! let initialize = serde_json::json!({
//!     "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
//!         "protocolVersion": "2025-06-18",
//!         "capabilities": {},
//!         "clientInfo": {"name": "me", "version": "1"},
//!     },
//! });
//! let opened = app.clone().oneshot(post("ada", initialize)).await?;
//! let of_ada = &opened.headers()["mcp-session-id"];
//!
//! let ping = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
//! for (user, expected) in [("ada", StatusCode::OK), ("bob", StatusCode::NOT_FOUND)] {
//!     let mut request = post(user, ping.clone());
//!     request.headers_mut().insert("mcp-session-id", of_ada.clone());
//!     let answer = app.clone().oneshot(request).await?;
//!     assert_eq!(answer.status(), expected, "{user}");
//! }
//! # Ok(()) }
//! ```
//!
//! The check cannot see which session a stream belongs to: rmcp gives the stores no session and no user. So treat the id of an event as a
//! secret, like the id of a session. Nobody can guess one: it has 128 random bits. A user who was *told* one, by a log for instance, could
//! read the rest of that stream through a session of their own. This crate puts neither kind of id into a log or an error. In a backend,
//! the ids of sessions, owners and streams are hashed; those of events are not. rmcp writes the ids of sessions into its log.
//!
//! # Defaults
//!
//! - sessions: 24 hours after their last use; another replica's first request of a session, and each check of its owner, is a use
//! - events: 1 hour; 1,000 events and 4 MiB for each stream; the oldest are dropped, and the newest is always kept
//! - a step of a backend: 2 s
//! - the lease of a process: 30 s
//! - a resumed stream asks the backend for later events after 50 ms, and then after pauses that double up to 1 s
//!
//! A request costs one round trip for each of its events: usually two, since rmcp begins each stream with an event that has an id and
//! nothing else. The lease costs a call nothing: a process renews it three times in its time, and a resumed stream reads it once until
//! it ends.
//!
//! # What a client gets
//!
//! A resumed stream has the later events of the stream that the event belongs to, with their ids, in the order in which they were
//! sent. It waits for events that another replica is about to write, and ends after the answer. It also ends where the backend fails, or
//! where events that the client has not seen were dropped, so that there is never a gap: then the client comes back.
//!
//! An id that is unknown, malformed, of another store, dropped or expired is an [`EventLogError::UnknownEvent`]. rmcp logs it, and answers
//! with an empty stream, as it does for a stream without later events: an HTTP error would make browsers ask for ever. rmcp's own
//! client asks again once a second, until the time of its request is over. So set the [ttl](EventLog::with_ttl) above the longest time
//! for which a call is silent.
//!
//! Every field of a message survives, also those that rmcp's types do not know.
//!
//! # What still needs sticky routing
//!
//! The stores keep what a server has said. What a client says reaches only the replica that gets the request. See
//! [the guide](crate::guide::deploying#servers-of-rmcp-replicas).
//!
//! # A process that dies
//!
//! With a [`ReplicaSessionManager`], a process has a [lease](EventLog::with_lease) in the event store, and each event of a call names its
//! process. A client that resumes a call whose process has no lease any more gets a JSON-RPC error for its request, with the code -32603 and
//! the data `{"mcp-patterns/rmcp": "outcome_unknown"}`: the tool may have run, in part or as a whole. The end is kept in the stream, so
//! whoever resumes it later gets the same.
//!
//! A process that was only slow may come back. Either its answer is in the stream first, and every client gets it, or the error is, and
//! the answer is refused: the process logs a warning, and no client gets both. So give a tool that changes something an
//! [idempotency key](crate::idempotent): the client's next call with the key learns what happened.
//!
//! rmcp tells an event store no request, so the client keeps its id: the ids of the events of a call end with `~` and the id of the
//! request. An id of a request that has more than 128 characters, spaces, or characters outside ASCII is left out: such a call, and each
//! call with a plain `LocalSessionManager`, ends with the time limit of the client. So do a request whose answer was not stored, and one
//! of a session that rmcp closed because it was idle.
//!
//! # The protocol 2026-07-28
//!
//! Its requests have no session. Each says what `initialize` said before, so any replica answers it without a store. The protocol has no
//! streams to resume: a client sends a request again. rmcp uses an event store if it is there, and resumes by the id of an event alone. The
//! stream of a dead process does not end then.
//!
//! # Errors
//!
//! rmcp takes errors of any type. Those of these stores are [`SessionStatesError`] and [`EventLogError`], or for a setting that cannot
//! work, each time, the [`ConfigError`](crate::ConfigError) that `check` returns. Their texts have no id of a session or an event, and no
//! password.
//!
//! # When the backend fails
//!
//! | what fails | what rmcp does |
//! | --- | --- |
//! | a new session is not stored | it logs a warning; the session works on its own replica |
//! | a session is not loaded | the request gets 500; a client tries again |
//! | an event is not stored | **its message is lost**, also an answer: the client waits until its limit. The tool has run |
//! | a stream is not resumed | the client gets an empty stream, and asks again |
//! | the lease of a process is not renewed in time | a client that resumes one of its calls gets the error, and the late answer is refused |
//! | the lease of a process cannot be read | the resumed stream ends without an error, and the client asks again |
//!
//! A failing backend is logged as a warning, at most once in ten seconds with a count of the rest, and its recovery as an information.
//!
//! Only the clock of the backend decides what has expired. Redis acknowledges an event before its replicas have it:
//! [`with_replicas`](RedisEventStore::with_replicas) waits for them.
//!
//! # Stores of your own
//!
//! [`rmcp_session_store_contract`](crate::testing::rmcp_session_store_contract) and
//! [`rmcp_event_store_contract`](crate::testing::rmcp_event_store_contract) check any store, and
//! [`rmcp_session_manager_contract`](crate::testing::rmcp_session_manager_contract) checks any manager that ends the calls of dead
//! replicas.

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod events;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod replicas;
#[cfg(feature = "session")]
mod sessions;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use events::{EVENT_SCHEMA, EventDatabase, SqlEventStore, SqlEvents};
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))))]
pub use events::{EventLog, EventLogError};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use events::{RedisEventStore, RedisEvents};
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))))]
pub use replicas::ReplicaSessionManager;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use sessions::{SessionStates, SessionStatesError};

#[cfg(test)]
#[cfg(all(feature = "redis", feature = "postgres", feature = "session", feature = "sqlite"))]
mod tests;
