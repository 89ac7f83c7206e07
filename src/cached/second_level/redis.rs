//! A second level in Redis: [`RedisLevel`].

mod commands;
mod compression;
mod scripts;
mod seen;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::Client;
use sha2::{Digest, Sha256};

use self::seen::{Seen, unseen};
use self::subscription::subscribe;
use crate::{AnyRedisConnection, ConfigError, RedisConnection};

use super::{LevelError, Put, Read, SecondLevel, Subscription};
use crate::cached::ZERO;

/// A second level in Redis: replicas share values in it, and send each other invalidations through it.
///
/// Give it a connection that reconnects by itself: a [`RedisConnection`](crate::RedisConnection), or a `ClusterConnection`
/// ([what it does not do](crate::RedisConnection#other-connections)) by [`AnyRedisConnection`]. Without
/// [`with_subscriber`](Self::with_subscriber), replicas do not receive invalidations.
///
/// ```no_run
/// use mcp_patterns::{CachedTool, RedisConnection, cached::RedisLevel};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
/// let level = RedisLevel::new(redis.clone()).with_subscriber(&redis);
/// let cached = CachedTool::new().with_second_level(level);
/// # Ok(()) }
/// ```
///
/// # A Redis that does not answer
///
/// Each step may take the time of [`with_second_level_timeout`](crate::CachedTool::with_second_level_timeout); after five failures in a
/// row, the breaker skips steps for five seconds. A `RedisConnection` that stopped answering is replaced meanwhile. The cache sends a
/// `PING` on a subscription that was silent for half a second, and replaces it if no answer comes within half a second: so it detects a
/// silent peer within a second, whatever the connection of the steps is.
///
/// # Keys
///
/// | key | type | content |
/// | --- | --- | --- |
/// | `{prefix:shard}:v:` and 64 hexadecimal digits | string | a value; the digits are the SHA-256 of its key |
/// | `{prefix:shard}:l:` and the same | string | the lease of a load |
/// | `{prefix:shard}:g` | sorted set | the number of the last invalidation of each key: the last 65,536 keys |
/// | `prefix:invalidations` | channel | invalidations |
///
/// Every key expires, except those of the invalidations. If Redis evicts one of those, all values of its shard are invalid for ever. The
/// level requires Redis 6.2 (`ZMSCORE`).
///
/// # Failover
///
/// Redis replicates asynchronously, and may write to disk later. So a failover, or a restart from a snapshot, loses the last
/// invalidations, and the values that they invalidated are present again. Each process remembers the highest numbers that it has
/// seen, and every key that it has invalidated or received: it uses no older value. The first such process that asks Redis for a value of
/// the shard detects the loss, drops all values that the shard had kept until then, and tells the other replicas; from then on the level
/// is used again. If all processes that knew an invalidation have ended, a value stays wrong until its ttl ends. A failover also loses
/// leases, so that two replicas may make one call.
///
/// Reads must go to the primary: a cluster connection that reads from replicas misses the values that they have not received yet.
///
/// # Cluster
///
/// One round trip reads a value and its invalidations, so both are on one node. With one shard, the default, everything is on one node.
/// With [more](Self::with_shards), values are spread over that many hash tags, each with its own invalidations: a read is still one round
/// trip, and an invalidation is one step for each shard.
#[derive(Clone)]
#[must_use]
pub struct RedisLevel {
    connection: AnyRedisConnection,
    settings: Arc<Settings>,
}

struct Settings {
    prefix: String,
    shards: u16,
    compress_above: Option<usize>,
    subscribers: Vec<Client>,
    /// The number of subscriptions so far, which selects the next client.
    next: AtomicUsize,
    /// One for each shard.
    seen: Arc<[Seen]>,
}

impl RedisLevel {
    /// Creates a level on a connection: a [`RedisConnection`], or any other as an [`AnyRedisConnection`].
    pub fn new(connection: impl Into<AnyRedisConnection>) -> Self {
        let settings = Settings {
            prefix: "mcp-patterns:cache".to_owned(),
            shards: 1,
            compress_above: None,
            subscribers: Vec::new(),
            next: AtomicUsize::new(0),
            seen: unseen(1),
        };
        Self { connection: connection.into(), settings: settings.into() }
    }

    /// Subscribes to the invalidations of other replicas, over an additional connection to the server of `connection`. In a cluster, any
    /// node works; call it again to add another node: they are tried in turn.
    pub fn with_subscriber(self, connection: &RedisConnection) -> Self {
        let client = connection.client();
        self.set(|settings| settings.subscribers.push(client))
    }

    /// Sets the prefix of all keys. Caches with the same prefix invalidate each other's values if they have the same tools or tags.
    /// Default: `mcp-patterns:cache`.
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        self.set(|settings| settings.prefix = prefix.into())
    }

    /// Spreads the values over this many hash tags, for a cluster: several for each node, such as 16 for three nodes. All replicas need
    /// the same number. Default: 1.
    pub fn with_shards(self, shards: u16) -> Self {
        self.set(|settings| settings.shards = shards)
    }

    /// Compresses values above this many bytes with LZ4. Default: no compression.
    pub fn with_compression_above(self, bytes: usize) -> Self {
        self.set(|settings| settings.compress_above = Some(bytes))
    }

    fn set(self, set: impl FnOnce(&mut Settings)) -> Self {
        let settings = &self.settings;
        let mut changed = Settings {
            prefix: settings.prefix.clone(),
            subscribers: settings.subscribers.clone(),
            next: AtomicUsize::new(0),
            seen: Arc::default(),
            ..**settings
        };
        set(&mut changed);
        changed.seen = unseen(changed.shards);
        Self { settings: changed.into(), ..self }
    }

    fn place(&self, key: &[u8]) -> Place {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let shard = u16::from_le_bytes([hash[0], hash[1]]) % self.settings.shards.max(1);
        Place { hash, shard }
    }

    fn invalidations_key(&self, shard: u16) -> String {
        format!("{{{}:{shard}}}:g", self.settings.prefix)
    }

    fn channel(&self) -> String {
        format!("{}:invalidations", self.settings.prefix)
    }

    fn key(&self, kind: char, place: &Place) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut key = String::with_capacity(self.settings.prefix.len() + 80);
        key.push('{');
        key.push_str(&self.settings.prefix);
        key.push(':');
        key.push_str(&place.shard.to_string());
        key.push_str("}:");
        key.push(kind);
        key.push(':');
        for byte in place.hash {
            key.push(DIGITS[usize::from(byte >> 4)].into());
            key.push(DIGITS[usize::from(byte & 15)].into());
        }
        key
    }
}

/// The place of a key: its name and its shard.
struct Place {
    hash: [u8; 32],
    shard: u16,
}

#[async_trait]
impl SecondLevel for RedisLevel {
    async fn get(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, LevelError> {
        self.read(key, invalidation_keys).await.map_err(LevelError::new)
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        self.write(values).await.map_err(LevelError::new)
    }

    async fn invalidate(&self, origin: u64, invalidation_keys: &[u64]) -> Result<u64, LevelError> {
        self.invalidate_all(origin, invalidation_keys).await.map_err(LevelError::new)
    }

    async fn raise(&self, key: &[u8], invalidation_keys: &[u64], number: u64) -> Result<(), LevelError> {
        self.raise_to(key, invalidation_keys, number).await.map_err(LevelError::new)
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        self.take_lease(key, token, lease).await.map_err(LevelError::new)
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        self.return_lease(key, token).await.map_err(LevelError::new)
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        let clients = &self.settings.subscribers;
        let at = self.settings.next.fetch_add(1, Ordering::Relaxed) % clients.len().max(1);
        let Some(client) = clients.get(at) else { return Ok(None) };
        let seen = Arc::clone(&self.settings.seen);
        subscribe(client, self.channel(), seen).await.map(Some).map_err(LevelError::new)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.connection.check()?;
        match self.settings.shards {
            0 => Err(ConfigError::invalid("RedisLevel", "with_shards", ZERO)),
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let subscriber = if self.settings.subscribers.is_empty() { "without" } else { "with" };
        format!("RedisLevel {subscriber} a subscriber")
    }
}

impl fmt::Debug for RedisLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLevel")
            .field("prefix", &self.settings.prefix)
            .field("shards", &self.settings.shards)
            .finish_non_exhaustive()
    }
}
