use std::fmt;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, pipe};

use super::backend::{Backend, BackendError, Record, Write, Written};
use crate::clock::millis;
use crate::replication::{self, Replication, StepError};
use crate::{AnyRedisConnection, ConfigError};

/// Keeps sessions in Redis, for all replicas.
///
/// Each session has one key, so that the backend works on a cluster: a hash that expires by itself, with the version `v`, the data `d`,
/// and `r`: by how many milliseconds the session may outlast that expiry. [The clock of Redis](super#clocks) measures all times.
/// Acknowledged writes are as durable as your Redis makes them (`appendonly yes`), and last as long as it evicts no keys
/// (`maxmemory-policy noeviction`).
///
/// # Failover
///
/// Redis acknowledges a write before its replicas have it. **A failover loses the last writes of sessions, and their ends.** Two
/// settings help:
///
/// - [`with_replicas`](Self::with_replicas) acknowledges a write only once that many replicas have it. Then no acknowledged write is
///   lost, as long as one of these replicas becomes the primary.
/// - `min-replicas-to-write` and `min-replicas-max-lag` of Redis let a primary refuse writes that no replica follows. They limit the
///   loss to the writes of that many seconds.
#[derive(Clone)]
#[must_use]
pub struct RedisBackend {
    connection: AnyRedisConnection,
    prefix: String,
    /// How many replicas must have a write, and the timeout of the wait for them.
    replicas: Option<(usize, Duration)>,
}

impl RedisBackend {
    /// Creates a backend on a connection: a [`RedisConnection`](crate::RedisConnection), which is replaced once it does not answer, or
    /// [another one](crate::RedisConnection#other-connections).
    pub fn new(connection: impl Into<AnyRedisConnection>) -> Self {
        Self { connection: connection.into(), prefix: "mcp-patterns:session:".to_owned(), replicas: None }
    }

    /// Sets the prefix of the keys. Default: `mcp-patterns:session:`.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Acknowledges a write, and the end of a session, only once this many replicas have it, within `timeout` (at least 1 ms). If too
    /// few have it, the call fails with [`SessionError::OutcomeUnknown`](super::SessionError::OutcomeUnknown): the write may have been
    /// kept.
    ///
    /// Redis takes no other command from a connection while it waits (`WAIT`): give the backend a connection of its own, and a
    /// `timeout` below that connection's response timeout (500 ms by default) and well below the
    /// [backend's](crate::SessionStore::with_backend_timeout). Each write takes a round trip to the replicas more, one write after the
    /// other; without a replica, it takes the whole `timeout`. Default: waits for no replica.
    pub fn with_replicas(mut self, replicas: usize, timeout: Duration) -> Self {
        self.replicas = Some((replicas, timeout));
        self
    }

    fn replication(&self) -> Option<Replication> {
        let (replicas, timeout) = self.replicas?;
        let replicas = NonZeroU32::new(u32::try_from(replicas).unwrap_or(u32::MAX))?;
        Some(Replication { replicas, timeout })
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// Without an expected version, there must be no record.
    async fn write(&self, id: &str, expected: Option<u64>, write: Write<'_>) -> Result<Written, BackendError> {
        let mut step = WRITE.prepare_invoke();
        step.key(self.key(id)).arg(expected.map(|version| version.to_string()).unwrap_or_default());
        step.arg(write.version).arg(write.data).arg(millis(write.ttl)).arg(millis(write.ends_in));
        let found = replication::take(self.replication(), &step, &mut self.connection.clone(), Option::is_none).await;
        let found: Option<Found> = found.map_err(backend_error)?;
        match found {
            None => Ok(Written::Yes),
            Some(found) => Ok(Written::Conflict(record(found)?)),
        }
    }
}

/// The version, the data, by how much the session may outlast the record, and how many milliseconds are left of that.
type Found = (Option<u64>, Option<String>, Option<u64>, i64);

type Fields = (Option<u64>, Option<String>, Option<u64>);

/// Returns nothing if the write is kept, and the current record if it is not. Versions are compared as text: Lua's numbers would lose
/// digits.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local version = redis.call('HGET', KEYS[1], 'v') or ''
        if version ~= ARGV[1] and version ~= ARGV[2] then
            local found = redis.call('HMGET', KEYS[1], 'd', 'r')
            return {version ~= '' and version, found[1], found[2], redis.call('PTTL', KEYS[1])}
        end
        local left = version == '' and tonumber(ARGV[5]) or left()
        redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
        keep(ARGV[4], left)
        return false",
    )
});

static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        keep(ARGV[1], left())
        return 1",
    )
});

/// A script with two functions: `left` returns the time until the session ends, and `keep` keeps its record for a time, but no longer
/// than that. The end is not stored as a time, but as its distance from the expiry: so Redis alone measures both.
fn script(code: &str) -> Script {
    const ENDS: &str = "
        local function left()
            return math.max(redis.call('PTTL', KEYS[1]), 0) + (redis.call('HGET', KEYS[1], 'r') or 0)
        end
        local function keep(ttl, left)
            ttl = math.min(tonumber(ttl), left)
            redis.call('HSET', KEYS[1], 'r', string.format('%.0f', left - ttl))
            redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
        end";
    Script::new(&format!("{ENDS}{code}"))
}

static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
        if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then return 0 end
        return redis.call('DEL', KEYS[1])",
    )
});

fn backend_error(error: StepError) -> BackendError {
    match error {
        StepError::Redis(error) => BackendError::of_redis(error),
        StepError::NotReplicated(error) => BackendError::new(error),
    }
}

/// Reads a record. It may have expired between two commands of a pipeline.
fn record(found: Found) -> Result<Option<Record>, BackendError> {
    match found {
        (None, None, ..) | (.., -2) => Ok(None),
        (Some(version), Some(data), rest, left) => {
            // A record without an expiry: something else has removed it.
            let expires_in = u64::try_from(left).map_or(Duration::MAX, Duration::from_millis);
            let ends_in = expires_in.saturating_add(Duration::from_millis(rest.unwrap_or_default()));
            Ok(Some(Record::new(version, data, expires_in, ends_in)))
        }
        _ => Err(BackendError::new(
            "the Redis key of a session has no fields of a session: check that nothing else writes under its prefix",
        )),
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.connection.check()?;
        let Some((replicas, timeout)) = self.replicas else { return Ok(()) };
        ConfigError::check_positive("RedisBackend", "with_replicas", replicas)?;
        ConfigError::check_timeout("RedisBackend", "with_replicas", timeout)
    }

    async fn create(&self, id: &str, write: Write<'_>) -> Result<Written, BackendError> {
        self.write(id, None, write).await
    }

    async fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        let key = self.key(id);
        let mut load = pipe();
        load.cmd("HMGET").arg(&key).arg("v").arg("d").arg("r").pttl(&key);
        let found = load.query_async(&mut self.connection.clone()).await.map_err(BackendError::of_redis)?;
        let (fields, left): (Fields, i64) = found;
        let (version, data, rest) = fields;
        record((version, data, rest, left))
    }

    async fn compare_and_swap(&self, id: &str, expected: u64, write: Write<'_>) -> Result<Written, BackendError> {
        self.write(id, Some(expected), write).await
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<bool, BackendError> {
        let mut step = TOUCH.prepare_invoke();
        step.key(self.key(id)).arg(millis(ttl));
        step.invoke_async(&mut self.connection.clone()).await.map_err(BackendError::of_redis)
    }

    async fn delete(&self, id: &str, expected: Option<u64>) -> Result<bool, BackendError> {
        let mut step = DELETE.prepare_invoke();
        step.key(self.key(id)).arg(expected.map(|version| version.to_string()).unwrap_or_default());
        let is_gone = replication::take(self.replication(), &step, &mut self.connection.clone(), |gone| *gone).await;
        is_gone.map_err(backend_error)
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
