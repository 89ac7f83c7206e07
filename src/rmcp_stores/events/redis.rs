use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, cmd};

use super::payload::ABANDONED;
use super::{EventLog, EventLogError, KeptEvent, Log, NewEvent};
use crate::clock::millis;
use crate::replication::{self, Replication};
use crate::{AnyRedisConnection, ConfigError};

/// Keeps the events of rmcp's streams in Redis, for all replicas: each stream of rmcp is a stream of Redis.
///
/// Each stream has one key, which expires by itself, so that the store works on a cluster. It needs Redis 6.2. Acknowledged events are
/// as durable as your Redis makes them (`appendonly yes`), and last as long as it evicts no keys (`maxmemory-policy noeviction`). A
/// failover loses the last ones, unless the store [waits for replicas](Self::with_replicas).
pub type RedisEventStore = EventLog<RedisEvents>;

/// The log of a [`RedisEventStore`].
#[derive(Debug, Clone)]
pub struct RedisEvents {
    connection: AnyRedisConnection,
    prefix: String,
    /// How many replicas must have an event, and the timeout of the wait for them.
    replicas: Option<(usize, Duration)>,
}

impl EventLog<RedisEvents> {
    /// Creates a store on a connection: a [`RedisConnection`](crate::RedisConnection), or
    /// [another one](crate::RedisConnection#other-connections).
    pub fn new(connection: impl Into<AnyRedisConnection>) -> Self {
        let prefix = "mcp-patterns:rmcp-events:".to_owned();
        Self::on(RedisEvents { connection: connection.into(), prefix, replicas: None })
    }

    /// Sets the prefix of the keys. Default: `mcp-patterns:rmcp-events:`.
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        let log = RedisEvents { prefix: prefix.into(), ..(*self.log).clone() };
        Self { log: log.into(), ..self }
    }

    /// Sends an event to its client only once this many replicas have it, within `timeout` (at least 1 ms): see
    /// [`session::RedisBackend`](crate::session::RedisBackend#failover) for what it costs. Default: waits for no replica.
    pub fn with_replicas(self, replicas: usize, timeout: Duration) -> Self {
        let log = RedisEvents { replicas: Some((replicas, timeout)), ..(*self.log).clone() };
        Self { log: log.into(), ..self }
    }
}

/// The id of an event: where it is in the stream of Redis, the key of that stream, and the secret. `-` separates the first two
/// numbers, as Redis writes them.
struct Id<'a> {
    entry: &'a str,
    stream: &'a str,
    secret: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let (entry, rest) = id.split_once('.')?;
        let (stream, secret) = rest.split_once('.')?;
        let (ms, number) = entry.split_once('-')?;
        let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_valid = [ms, number].iter().all(|part| part.parse::<u64>().is_ok()) && is_hex(stream) && is_hex(secret);
        is_valid.then_some(Self { entry, stream, secret })
    }
}

impl RedisEvents {
    fn key(&self, stream: &str) -> String {
        format!("{}{stream}", self.prefix)
    }

    fn owner_key(&self, owner: &str) -> String {
        format!("{}owner:{owner}", self.prefix)
    }

    fn replication(&self) -> Option<Replication> {
        let (replicas, timeout) = self.replicas?;
        let replicas = NonZeroU32::new(u32::try_from(replicas).unwrap_or(u32::MAX))?;
        Some(Replication { replicas, timeout })
    }
}

/// Appends an event, and drops the oldest ones beyond the bounds. Returns the id of the entry, or nothing if the stream is abandoned.
///
/// Every entry has the bytes of its stream before it, `o`: so the first and the last entry tell how many bytes lie between them. An
/// event that is sent twice is among the last entries: its writer waits for the answer before it writes another one.
static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
        local key, secret, data = KEYS[1], ARGV[1], ARGV[2]
        local offset, is_abandoned = 0, false
        for n, entry in ipairs(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 4)) do
            local field = entry[2]
            if field[2] == secret then return entry[1] end
            if n == 1 then offset, is_abandoned = tonumber(field[4]) + #field[6], field[6] == '' end
        end
        if is_abandoned then return false end
        local id = redis.call('XADD', key, 'MAXLEN', ARGV[3], '*',
            's', secret, 'o', string.format('%.0f', offset), 'd', data)
        local oldest = offset + #data - tonumber(ARGV[4])
        while true do
            local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
            if first[1] == id or tonumber(first[2][4]) >= oldest then break end
            redis.call('XDEL', key, first[1])
        end
        redis.call('PEXPIRE', key, ARGV[5])
        return id",
    )
});

/// Marks a stream as abandoned, if this entry is its last one. The mark drops no event, so that a client can still resume from it.
static ABANDON: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
        local key = KEYS[1]
        local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
        if not last or last[1] ~= ARGV[1] then return 0 end
        local field = last[2]
        redis.call('XADD', key, '*',
            's', ARGV[2], 'o', string.format('%.0f', tonumber(field[4]) + #field[6]), 'd', ARGV[3])
        redis.call('PEXPIRE', key, ARGV[4])
        return 1",
    )
});

#[async_trait]
impl Log for RedisEvents {
    const NAME: &'static str = "RedisEventStore";

    fn check(&self) -> Result<(), ConfigError> {
        self.connection.check()?;
        let Some((replicas, timeout)) = self.replicas else { return Ok(()) };
        ConfigError::check_positive(Self::NAME, "with_replicas", replicas)?;
        ConfigError::check_timeout(Self::NAME, "with_replicas", timeout)
    }

    async fn append(&self, event: NewEvent<'_>) -> Result<Option<String>, EventLogError> {
        let NewEvent { stream, secret, data, ttl, max_events, max_bytes } = event;
        let mut step = APPEND.prepare_invoke();
        step.key(self.key(stream)).arg(secret).arg(data).arg(max_events).arg(max_bytes).arg(millis(ttl));
        let entry = replication::take(self.replication(), &step, &mut self.connection.clone(), Option::is_some).await;
        let entry: Option<String> = entry.map_err(|error| EventLogError::backend(error.to_string()))?;
        Ok(entry.map(|entry| format!("{entry}.{stream}.{secret}")))
    }

    async fn abandon(&self, last: &str, secret: &str, ttl: Duration) -> Result<(), EventLogError> {
        let Some(Id { entry, stream, .. }) = Id::parse(last) else { return Ok(()) };
        let mut step = ABANDON.prepare_invoke();
        step.key(self.key(stream)).arg(entry).arg(secret).arg(ABANDONED).arg(millis(ttl));
        let marked = replication::take(self.replication(), &step, &mut self.connection.clone(), |marked| *marked).await;
        marked.map(|_: bool| ()).map_err(|error| EventLogError::backend(error.to_string()))
    }

    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), EventLogError> {
        let mut renew = cmd("SET");
        renew.arg(self.owner_key(owner)).arg("owner").arg("PX").arg(millis(lease));
        renew.query_async(&mut self.connection.clone()).await.map_err(EventLogError::backend)
    }

    async fn lease_left(&self, owner: &str) -> Result<Option<Duration>, EventLogError> {
        let mut left = cmd("PTTL");
        left.arg(self.owner_key(owner));
        let left: i64 = left.query_async(&mut self.connection.clone()).await.map_err(EventLogError::backend)?;
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }

    async fn read_from(&self, id: &str, limit: usize) -> Result<Option<Vec<KeptEvent>>, EventLogError> {
        let Some(Id { entry, stream, secret }) = Id::parse(id) else { return Ok(None) };
        let mut read = cmd("XRANGE");
        read.arg(self.key(stream)).arg(entry).arg("+").arg("COUNT").arg(limit.saturating_add(1));
        let entries: Vec<(String, Vec<String>)> =
            read.query_async(&mut self.connection.clone()).await.map_err(EventLogError::backend)?;
        let is_there =
            |(first, fields): &(String, Vec<String>)| first == entry && fields.get(1).is_some_and(|s| s == secret);
        if !entries.first().is_some_and(is_there) {
            return Ok(None);
        }
        let events = entries.into_iter().map(|(entry, mut fields)| {
            if fields.len() != 6 {
                return Err(EventLogError::Unreadable);
            }
            let (data, secret) = (fields.swap_remove(5), &fields[1]);
            Ok(KeptEvent { id: format!("{entry}.{stream}.{secret}"), data })
        });
        events.collect::<Result<_, _>>().map(Some)
    }

    async fn touch(&self, id: &str, ttl: Duration) -> Result<(), EventLogError> {
        let Some(Id { stream, .. }) = Id::parse(id) else { return Ok(()) };
        let mut touch = cmd("PEXPIRE");
        touch.arg(self.key(stream)).arg(millis(ttl));
        touch.query_async(&mut self.connection.clone()).await.map_err(EventLogError::backend)
    }
}
