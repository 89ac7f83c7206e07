use std::fmt;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, Value};

use super::RedisConnection;
use crate::ConfigError;

/// A connection to Redis of any kind. The backends of this crate take one. Clones share the connection.
///
/// A [`RedisConnection`] converts into it. For a connection that you made with redis 1, use [`from_redis_1`](Self::from_redis_1). The
/// version is part of the name: a later major version of redis adds a constructor, and changes no other.
///
/// ```
/// # async fn example(cluster: redis::cluster_async::ClusterConnection) {
/// use mcp_patterns::AnyRedisConnection;
/// use mcp_patterns::cached::RedisLevel;
///
/// let level = RedisLevel::new(AnyRedisConnection::from_redis_1(cluster));
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct AnyRedisConnection(Kind);

#[derive(Clone)]
enum Kind {
    Watched(RedisConnection),
    Other(Box<dyn Other>),
}

/// A connection that can be cloned and takes commands.
trait Other: ConnectionLike + Send + Sync {
    fn boxed_clone(&self) -> Box<dyn Other>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Other for C {
    fn boxed_clone(&self) -> Box<dyn Other> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Other> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}

impl AnyRedisConnection {
    /// Creates it from a connection of redis 1 whose clones share it: a `ConnectionManager`, a `MultiplexedConnection`, or a
    /// `ClusterConnection`. See their [limits](RedisConnection#other-connections).
    pub fn from_redis_1(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self(Kind::Other(Box::new(connection)))
    }

    /// Checks the settings of a [`RedisConnection`]. Another connection has none here.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match &self.0 {
            Kind::Watched(connection) => connection.check(),
            Kind::Other(_) => Ok(()),
        }
    }
}

impl From<RedisConnection> for AnyRedisConnection {
    fn from(connection: RedisConnection) -> Self {
        Self(Kind::Watched(connection))
    }
}

impl ConnectionLike for AnyRedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.0 {
            Kind::Watched(connection) => connection.req_packed_command(cmd),
            Kind::Other(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Kind::Watched(connection) => connection.req_packed_commands(pipeline, offset, count),
            Kind::Other(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Kind::Watched(connection) => connection.get_db(),
            Kind::Other(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for AnyRedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Watched(connection) => connection.fmt(f),
            Kind::Other(_) => f.debug_struct("AnyRedisConnection").finish_non_exhaustive(),
        }
    }
}
