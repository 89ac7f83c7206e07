//! The settings of rates in Redis.

use std::fmt;
use std::time::Duration;

use crate::circuit::Rules;
use crate::{AnyRedisConnection, ConfigError};

/// Counts rates in Redis, for all processes that have the same server name, prefix, limits and selectors.
///
/// Each call takes one round trip, of one script. Redis' own clock measures. A key is a hash, so that a reader of Redis does not see who
/// called, and expires once nothing of its rate is used any more. In a cluster, all keys of a server are on one node. Let Redis evict no
/// keys (`maxmemory-policy noeviction`), or a caller may get a new burst.
///
/// # Outages
///
/// A call never fails because of Redis. If it does not answer in time, the process decides alone, from what Redis said last: it lets its
/// part of the rate through ([`with_replicas`](super::LimitedTool::with_replicas)). After five failures in a row, calls do not wait for it
/// any more; every five seconds, one of them asks.
///
/// What a process has let through counts in Redis as soon as it asks again, and so does what Redis has lost in a restart or a failover, as
/// far as a process knows of it. A caller whom no process has seen lately begins with a new burst.
#[derive(Clone)]
#[must_use]
pub struct RedisBackend {
    pub(super) connection: AnyRedisConnection,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
    /// How long Redis is left alone after it has failed.
    pub(super) pause: Duration,
}

impl RedisBackend {
    /// Creates a backend on a [`RedisConnection`](crate::RedisConnection), which is replaced when it does not answer, or on [another
    /// connection](crate::RedisConnection#other-connections) whose clones share it.
    pub fn new(connection: impl Into<AnyRedisConnection>) -> Self {
        Self {
            connection: connection.into(),
            prefix: "mcp-patterns:limit:".to_owned(),
            timeout: Duration::from_millis(100),
            pause: Rules::OF_BACKEND.pause,
        }
    }

    /// Sets how the names of the keys begin. Default: `mcp-patterns:limit:`.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets a call wait for Redis for so long. Default: 100 ms.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_timeout("RedisBackend", "with_timeout", self.timeout)?;
        self.connection.check()
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
