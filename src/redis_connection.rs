//! A connection to Redis that is watched, and replaced once it does not answer: [`RedisConnection`].

mod any;
mod link;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value};

pub use self::any::AnyRedisConnection;

use self::link::Shared;
use self::settings::{Settings, with_tcp_settings};
use crate::ConfigError;

/// A connection to one Redis server, for the stores of this crate and for your own. Clones share it.
///
/// ```no_run
/// # fn example() -> Result<(), mcp_patterns::ConfigError> {
/// use mcp_patterns::cached::RedisLevel;
/// use mcp_patterns::{CachedTool, RedisConnection, SessionStore};
///
/// let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
/// let sessions = SessionStore::redis(redis.clone());
/// let cached = CachedTool::new().with_second_level(RedisLevel::new(redis.clone()).with_subscriber(&redis));
/// # Ok(()) }
/// ```
///
/// It connects when the first command is sent. A server that is not there yet, or is gone for a while, needs no restart of yours.
///
/// # A connection that does not answer
///
/// A server that hangs, or a network that loses every packet, closes nothing: without a limit, each command waits for its timeout, and
/// the next one is sent on the same connection. Here:
///
/// 1. A command waits for its answer for at most the [response timeout](Self::with_response_timeout). A caller who stops waiting
///    before that counts as a timeout too.
/// 2. After [3 timeouts in a row](Self::with_max_timeouts), without an answer between them, the connection is sent one `PING`.
/// 3. Any answer within the [ping timeout](Self::with_ping_timeout) keeps the connection: the server is slow, and connecting again
///    would not make it faster. Without one, the connection is replaced.
///
/// So a connection that has fallen silent is in use for at most 3 response timeouts (of commands that are sent one after the other)
/// and one ping timeout: 2.5 seconds by default. Commands under way end within their own timeouts.
///
/// **No command is ever sent twice.** It is not known if one that timed out, or whose connection was lost, has taken effect: its
/// caller gets the error.
///
/// All callers share one attempt to connect. Attempts that fail, or give a connection that answers nothing, are made again after a
/// pause, of 50 ms at first and 2 s at most. A command waits for a connection for at most the
/// [connect timeout](Self::with_connect_timeout), then it fails without having been sent: its error is a
/// [connection refusal](redis::RedisError::is_connection_refusal), or what the server refuses the connection with, such as for a wrong
/// password; the next command asks again.
///
/// # Sockets
///
/// `TCP_NODELAY` is set. Where `address` says nothing else, keepalive probes begin after 15 idle seconds, one every 5 seconds, and 3
/// of them without an answer close the connection; on Linux, so do 20 seconds in which what was sent is not acknowledged
/// (`TCP_USER_TIMEOUT`). They find a host that is gone while nothing is sent. They do not find a process that hangs: its kernel
/// answers for it.
///
/// # Other connections
///
/// The backends take any connection of redis 1 whose clones share it, by
/// [`AnyRedisConnection::from_redis_1`](AnyRedisConnection::from_redis_1). What these do not do:
///
/// - `ConnectionManager` of redis 1.8 connects again when a connection is closed, but **not after timeouts**: to a server that hangs
///   it stays connected until the process ends. If connecting fails by anything but the network, it never tries again. Its
///   settings do not change that; `TcpSettings` with keepalive and a user timeout help where a host is gone.
/// - `MultiplexedConnection` never connects again.
/// - `ClusterConnection` connects again to a node whose connection is closed, and by the cluster's own word when the node fails over.
///   It sends a command again that has timed out, on the same connection. Set `tcp_settings` with keepalive and a user timeout, and
///   a `response_timeout`, on the `ClusterClientBuilder`. The steps of this crate's stores have the same effect if they are sent twice.
///
/// Blocking commands (`BLPOP`, `WAIT`) keep all others on the connection waiting: give them a connection of their own, with a
/// response timeout above theirs.
#[derive(Clone)]
#[must_use]
pub struct RedisConnection(Arc<Shared>);

impl RedisConnection {
    /// Sets up a connection to the server at a URL such as `redis://user:password@127.0.0.1:6379/0`, and connects with the first
    /// command.
    ///
    /// # Errors
    ///
    /// When `url` is none of a Redis server.
    pub fn open(url: &str) -> Result<Self, ConfigError> {
        // The error of redis does not repeat the URL, which may have a password.
        Self::open_redis_1(url).map_err(|error| {
            ConfigError::invalid("RedisConnection", "open", format!("the URL names no Redis server: {error}"))
        })
    }

    /// Sets up a connection with what redis 1 knows of a server: TLS with certificates, socket options, a Unix socket.
    ///
    /// # Errors
    ///
    /// When `address` is none.
    pub fn open_redis_1(address: impl IntoConnectionInfo) -> RedisResult<Self> {
        let client = Client::open(with_tcp_settings(address.into_connection_info()?))?;
        Ok(Self(Arc::new(Shared::new(client, Settings::default()))))
    }

    /// Returns a client for the same server with the same socket options. What it connects is its own.
    pub(crate) fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Bounds the wait for an answer. At least a millisecond. Default: 500 ms.
    ///
    /// As every setter, it applies to this connection and the clones that are made of it from now on; earlier clones keep their own.
    pub fn with_response_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.response_timeout = timeout)
    }

    /// Bounds the wait for a connection: the resolving of the name, the handshakes, and the pauses between attempts. At least a
    /// millisecond. Default: 1 s.
    pub fn with_connect_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.connect_timeout = timeout)
    }

    /// Sets after how many timeouts in a row the connection is sent a `PING`, however long they are apart: with rare commands, set it
    /// to 1. Default: 3.
    pub fn with_max_timeouts(self, timeouts: NonZeroU32) -> Self {
        self.set(|settings| settings.max_timeouts = timeouts)
    }

    /// Bounds the wait for the answer to that `PING`. Set it above what a slow server takes for an answer. At least a millisecond.
    /// Default: 1 s.
    pub fn with_ping_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.ping_timeout = timeout)
    }

    fn set(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings;
        set(&mut settings);
        Self(Arc::new(Shared::new(self.client(), settings.at_least_a_millisecond())))
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (mut connection, call) = self.0.begin().await?;
            let result = connection.send_packed_command(cmd).await;
            call.end(&result);
            result
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (mut connection, call) = self.0.begin().await?;
            let result = connection.send_packed_commands(pipeline, offset, count).await;
            call.end(&result);
            result
        })
    }

    fn get_db(&self) -> i64 {
        self.0.client.get_connection_info().redis_settings().db()
    }
}

/// Without the password.
impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("address", &self.0.address())
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
