//! A connection to Redis that is monitored, and replaced when it does not answer: [`RedisConnection`].

mod any;
mod events;
mod link;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value};

pub use self::any::AnyRedisConnection;

use self::link::Shared;
use self::settings::{Settings, with_tcp_settings};
use crate::ConfigError;

/// A connection to one Redis server, for the backends of this crate and for your own use. Clones share it.
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
/// It connects when the first command is sent. If the Redis server starts later, or is unavailable for a while, your server needs no
/// restart.
///
/// # A connection that does not answer
///
/// A server that hangs, or a network that loses every packet, does not close the connection. Most clients then wait for the timeout of
/// each command, and send the next one on the same connection. This connection does the following:
///
/// 1. A command waits for its answer for at most the [response timeout](Self::with_response_timeout). If its caller stops waiting
///    before that, it counts as a timeout too.
/// 2. After [3 timeouts in a row](Self::with_max_timeouts), without an answer between them, it sends one `PING` on the connection.
/// 3. Any answer within the [ping timeout](Self::with_ping_timeout) keeps the connection: the server is slow, and connecting again
///    would not make it faster. Without an answer, the connection is replaced.
///
/// So an unresponsive connection is in use for at most 3 response timeouts (of commands that are sent one after the other) and one ping
/// timeout: 2.5 seconds by default. Commands that were already sent end within their own timeouts.
///
/// **No command is ever sent twice.** If a command times out, or its connection is lost, it is unknown whether it took effect: its caller
/// gets the error.
///
/// All callers share one attempt to connect. If an attempt fails, or its connection never answers, the next attempt follows after a
/// pause of 50 ms at first, and of at most 2 s. A command waits for a connection for at most the
/// [connect timeout](Self::with_connect_timeout). Then it fails without having been sent: its error is a
/// [connection refusal](redis::RedisError::is_connection_refusal), or the error with which the server refuses the connection, such as for a
/// wrong password. The next command tries again.
///
/// # Sockets
///
/// `TCP_NODELAY` is set. Unless `address` sets others, keepalive probes begin after 15 idle seconds, one every 5 seconds, and 3
/// unanswered probes close the connection. On Linux, 20 seconds without an acknowledgement of sent data close it too
/// (`TCP_USER_TIMEOUT`). These settings detect a host that has vanished while nothing is sent. They do not detect a process that hangs, since
/// its kernel answers for it.
///
/// # Other connections
///
/// The backends take any connection of redis 1 whose clones share it, by
/// [`AnyRedisConnection::from_redis_1`](AnyRedisConnection::from_redis_1). These connections have limits:
///
/// - `ConnectionManager` of redis 1.8 connects again when a connection is closed, but **not after timeouts**: it stays connected to a
///   server that hangs until the process ends. If connecting fails for a reason other than the network, it never tries again. Its
///   settings do not change that; `TcpSettings` with keepalive and a user timeout help if a host has vanished.
/// - `MultiplexedConnection` never connects again.
/// - `ClusterConnection` connects again to a node whose connection is closed, and when the cluster reports that the node fails over.
///   It sends a command that has timed out again, on the same connection. Set `tcp_settings` with keepalive and a user timeout, and
///   a `response_timeout`, on the `ClusterClientBuilder`. The steps of this crate's backends have the same effect if they are sent twice.
///
/// A blocking command (`BLPOP`, `WAIT`) delays all others on its connection: give blocking commands a connection of their own, with a
/// response timeout above theirs.
#[derive(Clone)]
#[must_use]
pub struct RedisConnection(Arc<Shared>);

impl RedisConnection {
    /// Creates a connection to the server at a URL such as `redis://user:password@127.0.0.1:6379/0`. It connects with the first
    /// command.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] if `url` is not the URL of a Redis server.
    pub fn open(url: &str) -> Result<Self, ConfigError> {
        // The error of redis does not repeat the URL, which may have a password.
        Self::open_redis_1(url).map_err(|error| {
            ConfigError::invalid(
                "RedisConnection",
                "open",
                format!("this is not the URL of a Redis server: {error}; use one such as `redis://127.0.0.1:6379`"),
            )
        })
    }

    /// Creates a connection from any address of redis 1: with TLS certificates, socket options, or a Unix socket.
    ///
    /// # Errors
    ///
    /// Those of redis, if `address` is not valid.
    pub fn open_redis_1(address: impl IntoConnectionInfo) -> RedisResult<Self> {
        let client = Client::open(with_tcp_settings(address.into_connection_info()?))?;
        Ok(Self(Arc::new(Shared::new(client, Settings::default()))))
    }

    /// Returns a client for the same server with the same socket options. Its connections are independent of this one.
    pub(crate) fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Bounds the wait for an answer. At least 1 ms. Default: 500 ms.
    ///
    /// Like every setter, it applies to this connection and its later clones. Earlier clones keep their settings.
    pub fn with_response_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.response_timeout = timeout)
    }

    /// Bounds the wait for a connection: name resolution, handshakes, and the pauses between attempts. At least 1 ms. Default: 1 s.
    pub fn with_connect_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.connect_timeout = timeout)
    }

    /// Sets the number of timeouts in a row after which a `PING` checks the connection, even if the timeouts are far apart: with rare
    /// commands, set it to 1. At least 1. Default: 3.
    pub fn with_max_timeouts(self, timeouts: u32) -> Self {
        self.set(|settings| settings.max_timeouts = timeouts)
    }

    /// Bounds the wait for the answer to that `PING`. Set it above the answer time of a slow server. At least 1 ms. Default: 1 s.
    pub fn with_ping_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.ping_timeout = timeout)
    }

    fn set(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings;
        set(&mut settings);
        Self(Arc::new(Shared::new(self.client(), settings)))
    }

    /// Checks the settings. A backend or a level with this connection checks them too, when its layer is put on a server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSetting`] for a setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.0.settings.check()
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
