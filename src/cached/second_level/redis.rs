//! A second level in Redis: [`RedisLevel`].

mod commands;
mod compression;
mod scripts;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use redis::Client;
use redis::aio::ConnectionLike;
use sha2::{Digest, Sha256};

use self::subscription::subscribe;
use crate::RedisConnection;

use super::{Generation, Invalidation, LevelError, LevelFuture, Put, Read, SecondLevel, Subscription};

/// Shares values in Redis, and tells replicas through it which of them are wrong.
///
/// Give it a connection that comes back by itself: a [`RedisConnection`](crate::RedisConnection), or a `ClusterConnection`
/// ([what it does not do](crate::RedisConnection#other-connections)). Without [`with_subscriber`](Self::with_subscriber), replicas are
/// not told of invalidations.
///
/// ```no_run
/// # fn example() -> Result<(), mcp_patterns::ConfigError> {
/// use mcp_patterns::{CachedTool, RedisConnection, cached::RedisLevel};
///
/// let redis = RedisConnection::open("redis://127.0.0.1:6379")?;
/// let level = RedisLevel::new(redis.clone()).with_subscriber(&redis);
/// let cached = CachedTool::new().with_second_level(level);
/// # Ok(()) }
/// ```
///
/// # A Redis that does not answer
///
/// Each step has the time of [`with_second_level_timeout`](crate::CachedTool::with_second_level_timeout); five failures in a row leave
/// the level alone for five seconds. A `RedisConnection` that has fallen silent is replaced meanwhile. The subscription is sent a
/// `PING` when it has heard nothing for half a second, and is replaced if that is not answered within half a second: so a silent
/// peer is noticed within a second, whatever the connection of the steps is.
///
/// # Keys
///
/// | key | type | what |
/// | --- | --- | --- |
/// | `{prefix:shard}:v:` and 64 hexadecimal digits | string | a value; the digits are the SHA-256 of its key |
/// | `{prefix:shard}:l:` and the same | string | the lease of a load |
/// | `{prefix:shard}:g` | sorted set | when what was last invalidated: the last 65,536 keys, by number |
/// | `prefix:invalidations` | channel | what is invalidated |
///
/// Everything but the invalidations expires. If they are evicted, all values are forgotten, and none comes back. It takes Redis 6.2
/// (`ZMSCORE`).
///
/// # Failover
///
/// Redis replicates without waiting, and may write to disk later. So after a failover, or a restart from a snapshot, the last
/// invalidations are lost, and what they were about is there again. Each process remembers the highest numbers that it has seen,
/// and every key that it has invalidated or heard of: nothing that is older is used. As soon as one such process asks Redis for
/// anything of the shard, it notices, drops all that the shard had kept until then, and tells the others; from then on the level is
/// used again. What only processes knew that have ended is known to nobody: then a value is wrong until its ttl ends. A failover
/// also loses leases, so that two replicas may make one call.
///
/// Reads must go to the primary: a cluster connection that reads from replicas makes misses of what they have not got yet.
///
/// # Cluster
///
/// A value is read together with the invalidations, so both are on one node. With one shard, the default, all is on one node. With
/// [more](Self::with_shards), values are spread over that many hash tags, each with invalidations of its own: a read
/// is one round trip still, and an invalidation one step for each shard.
#[derive(Clone)]
#[must_use]
pub struct RedisLevel<C> {
    connection: C,
    settings: Arc<Settings>,
}

struct Settings {
    prefix: String,
    shards: u16,
    compress_above: Option<usize>,
    subscribers: Vec<Client>,
    /// Which of them is next.
    next: AtomicUsize,
    /// For each shard.
    seen: Arc<[Seen]>,
}

/// The highest epoch and number that this process knows of. A shard that is behind has lost its last writes.
#[derive(Default)]
struct Seen {
    epoch: AtomicU64,
    number: AtomicU64,
}

impl Seen {
    fn now(&self) -> Generation {
        Generation::new(self.epoch.load(Ordering::SeqCst), self.number.load(Ordering::SeqCst))
    }

    fn note(&self, generation: Generation) {
        self.epoch.fetch_max(generation.epoch, Ordering::SeqCst);
        self.note_number(generation.number);
    }

    fn note_number(&self, number: u64) {
        self.number.fetch_max(number, Ordering::SeqCst);
    }
}

fn unseen(shards: u16) -> Arc<[Seen]> {
    (0..shards).map(|_| Seen::default()).collect()
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisLevel<C> {
    /// On any connection whose clones share it.
    pub fn new(connection: C) -> Self {
        let settings = Settings {
            prefix: "mcp-patterns:cache".to_owned(),
            shards: 1,
            compress_above: None,
            subscribers: Vec::new(),
            next: AtomicUsize::new(0),
            seen: unseen(1),
        };
        Self { connection, settings: settings.into() }
    }

    /// Listens for the invalidations of other replicas, over a connection of its own to the server of `connection`. In a cluster, any
    /// node will do; called again, it names another, and they are tried in turn.
    pub fn with_subscriber(self, connection: &RedisConnection) -> Self {
        let client = connection.client();
        self.set(|settings| settings.subscribers.push(client))
    }

    /// Sets how the names of the keys begin. Caches with the same prefix invalidate each other's values where they have the same
    /// tools or tags. Default: `mcp-patterns:cache`.
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        self.set(|settings| settings.prefix = prefix.into())
    }

    /// Spreads the values over this many hash tags, for a cluster: some for each node, 16 for three. All replicas have to have
    /// the same number. Default: 1.
    pub fn with_shards(self, shards: std::num::NonZeroU16) -> Self {
        self.set(|settings| settings.shards = shards.get())
    }

    /// Compresses values above this many bytes with LZ4. Default: none.
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
        let shard = u16::from_le_bytes([hash[0], hash[1]]) % self.settings.shards;
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

/// Where a key is.
struct Place {
    hash: [u8; 32],
    shard: u16,
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> SecondLevel for RedisLevel<C> {
    fn get<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64]) -> LevelFuture<'a, Read> {
        Box::pin(async move { self.read(key, invalidation_keys).await.map_err(LevelError::new) })
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        Box::pin(async move { self.write(values).await.map_err(LevelError::new) })
    }

    fn invalidate<'a>(&'a self, origin: u64, invalidation_keys: &'a [u64]) -> LevelFuture<'a, u64> {
        Box::pin(async move { self.invalidate_all(origin, invalidation_keys).await.map_err(LevelError::new) })
    }

    fn raise<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64], number: u64) -> LevelFuture<'a, ()> {
        Box::pin(async move { self.raise_to(key, invalidation_keys, number).await.map_err(LevelError::new) })
    }

    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool> {
        Box::pin(async move { self.take_lease(key, token, lease).await.map_err(LevelError::new) })
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()> {
        Box::pin(async move { self.return_lease(key, token).await.map_err(LevelError::new) })
    }

    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>> {
        let clients = &self.settings.subscribers;
        let at = self.settings.next.fetch_add(1, Ordering::Relaxed) % clients.len().max(1);
        let client = clients.get(at)?;
        let seen = Arc::clone(&self.settings.seen);
        Some(Box::pin(async move { subscribe(client, self.channel(), seen).await.map_err(LevelError::new) }))
    }
}

impl<C> fmt::Debug for RedisLevel<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLevel")
            .field("prefix", &self.settings.prefix)
            .field("shards", &self.settings.shards)
            .finish_non_exhaustive()
    }
}
