use std::fmt;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Script, pipe};

use super::backend::{Backend, BackendError, BackendFuture, Record, Write, Written};
use crate::clock::millis;
use crate::replication::{self, Replication, StepError};

/// Keeps sessions in Redis, for all replicas.
///
/// One key for each session, so it fits a cluster: a hash with the version `v` and the data `d`, which expires by itself, and `r`: by how
/// many milliseconds the session may outlast that. All of it is measured by [the clock of Redis](super#clocks). What is acknowledged is as durable as your Redis makes it (`appendonly yes`), and lasts as long as it evicts no keys
/// (`maxmemory-policy noeviction`).
///
/// # Failover
///
/// Redis acknowledges a write before its replicas have it. **A failover loses the last writes of sessions, and their ends.** What
/// helps:
///
/// - [`with_replicas`](Self::with_replicas) acknowledges a write only once so many replicas have it. Nothing acknowledged is lost
///   then as long as one of these becomes the primary.
/// - `min-replicas-to-write` and `min-replicas-max-lag` let a primary refuse writes that no replica follows: it limits how much is
///   lost, to what is written in that many seconds.
#[derive(Clone)]
#[must_use]
pub struct RedisBackend<C> {
    connection: C,
    prefix: String,
    replication: Option<Replication>,
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisBackend<C> {
    /// On any connection whose clones share it: a [`RedisConnection`](crate::RedisConnection), which is replaced once it does not
    /// answer, or [another one](crate::RedisConnection#other-connections).
    pub fn new(connection: C) -> Self {
        Self { connection, prefix: "mcp-patterns:session:".to_owned(), replication: None }
    }

    /// Sets how the names of the keys begin. Default: `mcp-patterns:session:`.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Acknowledges what is written, and that a session has ended, only once this many replicas have it, within `timeout` (a
    /// millisecond at least). What too few have is [`SessionError::Unknowable`](super::SessionError::Unknowable): it may have been
    /// kept.
    ///
    /// Redis takes nothing else from a connection while it waits (`WAIT`): give the backend a connection of its own, and a `timeout`
    /// below the response timeout of that (500 ms by default) and well below the [backend's](crate::SessionStore::with_backend_timeout). Each write takes the time of a round trip to the
    /// replicas, one after the other; without a replica, the whole `timeout`. Default: none is waited for.
    pub fn with_replicas(mut self, replicas: NonZeroU32, timeout: Duration) -> Self {
        self.replication = Some(Replication { replicas, timeout });
        self
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// With no version expected, there must be no record.
    async fn write(&self, id: &str, expected: Option<u64>, write: Write<'_>) -> Result<Written, BackendError> {
        let mut step = WRITE.prepare_invoke();
        step.key(self.key(id)).arg(expected.map(|version| version.to_string()).unwrap_or_default());
        step.arg(write.version).arg(write.data).arg(millis(write.ttl)).arg(millis(write.ends_in));
        let found = replication::take(self.replication, &step, &mut self.connection.clone(), Option::is_none).await;
        let found: Option<Found> = found.map_err(backend_error)?;
        match found {
            None => Ok(Written::Yes),
            Some(found) => Ok(Written::No(record(found)?)),
        }
    }
}

/// The version, the data, by how much the session may outlast the record, and how many milliseconds are left of that.
type Found = (Option<u64>, Option<String>, Option<u64>, i64);

type Fields = (Option<u64>, Option<String>, Option<u64>);

/// Answers nothing if the write is kept, and what there is if it is not. Versions are compared as text: Lua's numbers would lose
/// digits of them.
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

/// A script that knows how much time is `left` until the session ends, and `keep`s its record for a while, but no longer than that. The
/// end is not written as a time, but as what it is beyond the expiry: so Redis alone measures both.
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
            // Without an expiry: nobody knows who has taken it away.
            let expires_in = u64::try_from(left).map_or(Duration::MAX, Duration::from_millis);
            let ends_in = expires_in.saturating_add(Duration::from_millis(rest.unwrap_or_default()));
            Ok(Some(Record { version, data, expires_in, ends_in }))
        }
        _ => Err(BackendError::new("a key in Redis is no session")),
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Backend for RedisBackend<C> {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn create<'a>(&'a self, id: &'a str, write: Write<'a>) -> BackendFuture<'a, Written> {
        Box::pin(self.write(id, None, write))
    }

    fn load<'a>(&'a self, id: &'a str) -> BackendFuture<'a, Option<Record>> {
        Box::pin(async move {
            let key = self.key(id);
            let mut load = pipe();
            load.cmd("HMGET").arg(&key).arg("v").arg("d").arg("r").pttl(&key);
            let found = load.query_async(&mut self.connection.clone()).await.map_err(BackendError::of_redis)?;
            let (fields, left): (Fields, i64) = found;
            let (version, data, rest) = fields;
            record((version, data, rest, left))
        })
    }

    fn compare_and_swap<'a>(&'a self, id: &'a str, expected: u64, write: Write<'a>) -> BackendFuture<'a, Written> {
        Box::pin(self.write(id, Some(expected), write))
    }

    fn touch<'a>(&'a self, id: &'a str, ttl: Duration) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut step = TOUCH.prepare_invoke();
            step.key(self.key(id)).arg(millis(ttl));
            step.invoke_async(&mut self.connection.clone()).await.map_err(BackendError::of_redis)
        })
    }

    fn delete<'a>(&'a self, id: &'a str, expected: Option<u64>) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let mut step = DELETE.prepare_invoke();
            step.key(self.key(id)).arg(expected.map(|version| version.to_string()).unwrap_or_default());
            let is_gone = replication::take(self.replication, &step, &mut self.connection.clone(), |gone| *gone).await;
            is_gone.map_err(backend_error)
        })
    }
}

impl<C> fmt::Debug for RedisBackend<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
