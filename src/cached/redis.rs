use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use redis::aio::{ConnectionLike, PubSubSink, PubSubStream};
use redis::{Client, FromRedisValue, Pipeline, RedisError, Script, SetExpiry, SetOptions, Value};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::level::{Invalidation, LevelError, LevelFuture, Put, Read, SecondLevel, Subscription};

/// Shares values in Redis, and tells replicas through it which of them are wrong.
///
/// Give it a connection that comes back by itself: `ConnectionManager`, or `ClusterConnection`. Without
/// [`with_subscriber`](Self::with_subscriber), replicas are not told of invalidations.
///
/// ```no_run
/// # async fn example() -> redis::RedisResult<()> {
/// use mcp_patterns::{CachedTool, cached::RedisLevel};
///
/// let client = redis::Client::open("redis://127.0.0.1:6379")?;
/// let level = RedisLevel::new(client.get_connection_manager().await?).with_subscriber(client);
/// let cached = CachedTool::new().with_second_level(level);
/// # Ok(()) }
/// ```
///
/// # Keys
///
/// | key | type | what |
/// | --- | --- | --- |
/// | `{prefix:shard}:v:` and 64 hexadecimal digits | string | a value; the digits are the SHA-256 of its key |
/// | `{prefix:shard}:l:` and the same | string | the lease of a load |
/// | `{prefix:shard}:g` | hash | the generations: up to 65,536 numbers |
/// | `prefix:invalidations` | channel | what is invalidated |
///
/// Everything but the generations expires. If they are evicted, all values are forgotten, and none comes back. If Redis restarts
/// from an old snapshot, so do its generations, and what was invalidated since is there again: let it write to disk either at
/// once (`appendfsync always`) or not at all.
///
/// # Cluster
///
/// A value is read together with its generations, so both are on one node. With one shard, the default, all is on one node. With
/// [more](Self::with_shards), values are spread over that many hash tags, each with generations of its own: a read
/// is one round trip still, and an invalidation one step for each shard.
#[derive(Clone)]
#[must_use]
pub struct RedisLevel<C> {
    connection: C,
    settings: std::sync::Arc<Settings>,
}

struct Settings {
    prefix: String,
    shards: u16,
    compress_above: Option<usize>,
    subscribers: Vec<Client>,
    /// Which of them is next.
    next: AtomicUsize,
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
        };
        Self { connection, settings: settings.into() }
    }

    /// Listens for the invalidations of other replicas, over a connection of its own that `client` opens. In a cluster, any node
    /// will do; called again, it names another, and they are tried in turn.
    pub fn with_subscriber(self, client: Client) -> Self {
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
            ..**settings
        };
        set(&mut changed);
        Self { settings: changed.into(), ..self }
    }

    fn place(&self, key: &[u8]) -> Place {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let shard = u16::from_le_bytes([hash[0], hash[1]]) % self.settings.shards;
        Place { hash, shard }
    }

    fn generations_key(&self, shard: u16) -> String {
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

    async fn read(&self, key: &[u8], domains: &[u32]) -> Result<Read, RedisError> {
        let place = self.place(key);
        let (value_key, generations_key) = (self.key('v', &place), self.generations_key(place.shard));
        let mut pipeline = Pipeline::with_capacity(3);
        // The remaining time first: it is then that of the value, or of one that was there before and has less.
        pipeline.pttl(&value_key).get(&value_key).cmd("HMGET").arg(&generations_key).arg(EPOCH);
        for domain in domains {
            pipeline.arg(*domain);
        }
        let connection = &mut self.connection.clone();
        let [remaining, value, generations] = three(pipeline.ignore_errors().query_async(connection).await?)?;
        let generations = Vec::<Option<u64>>::from_redis_value(generations.extract_error()?)?;
        let generations = match generations.first() {
            Some(Some(_)) => generations,
            _ => self.seed(&generations_key, domains).await?,
        };
        let generations = generations.into_iter().map(Option::unwrap_or_default).collect();
        let value = match (value, remaining) {
            (Value::BulkString(bytes), Value::Int(millis @ 1..)) => {
                unpack(bytes).map(|value| (value, Duration::from_millis(millis.unsigned_abs())))
            }
            // No value, one that ends now, or something else that has its name.
            _ => None,
        };
        Ok(Read::new(value, generations))
    }

    /// Begins the generations of a shard that has none. No value was put with them.
    async fn seed(&self, key: &str, domains: &[u32]) -> Result<Vec<Option<u64>>, RedisError> {
        let connection = &mut self.connection.clone();
        SEED.key(key).invoke_async::<()>(connection).await?;
        redis::cmd("HMGET").arg(key).arg(EPOCH).arg(domains).query_async(connection).await
    }

    async fn write(&self, values: &[Put]) -> Result<(), RedisError> {
        let mut pipelines: Vec<(u16, Pipeline)> = Vec::new();
        for put in values {
            let place = self.place(&put.key);
            let at = pipelines.iter().position(|(shard, _)| *shard == place.shard).unwrap_or_else(|| {
                pipelines.push((place.shard, Pipeline::new()));
                pipelines.len() - 1
            });
            let millis = u64::try_from(put.ttl.as_millis()).unwrap_or(MAX_MILLIS).clamp(1, MAX_MILLIS);
            let options = SetOptions::default().with_expiration(SetExpiry::PX(millis));
            pipelines[at].1.set_options(self.key('v', &place), self.pack(&put.value), options).ignore();
        }
        let connections = pipelines.iter().map(|(_, pipeline)| {
            let mut connection = self.connection.clone();
            async move { pipeline.query_async::<()>(&mut connection).await }
        });
        try_join_all(connections).await.map(|_| ())
    }

    async fn advance_all(&self, origin: u64, domains: &[u32]) -> Result<(), RedisError> {
        let message = Invalidation::new(origin, domains.to_vec()).encode();
        let advance = |shard: u16, channel: String| {
            let mut connection = self.connection.clone();
            let mut step = ADVANCE.prepare_invoke();
            step.key(self.generations_key(shard)).arg(channel).arg(message.as_slice());
            domains.iter().for_each(|domain| {
                step.arg(*domain);
            });
            async move { step.invoke_async::<()>(&mut connection).await }
        };
        // Nobody is told before all shards know.
        try_join_all((1..self.settings.shards).map(|shard| advance(shard, String::new()))).await?;
        advance(0, self.channel()).await
    }

    fn pack(&self, value: &[u8]) -> Vec<u8> {
        if self.settings.compress_above.is_some_and(|above| value.len() > above) {
            let mut packed = vec![b'z'];
            packed.extend_from_slice(&lz4_flex::block::compress_prepend_size(value));
            packed
        } else {
            [b"p", value].concat()
        }
    }
}

/// The field of the generations that says which life of theirs this is.
const EPOCH: &str = "epoch";
/// As long as Redis can count, and more than anybody keeps anything.
const MAX_MILLIS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// Where a key is.
struct Place {
    hash: [u8; 32],
    shard: u16,
}

/// Begins the generations with the time, so that they never take a value again that they had before they were evicted.
const SEEDED: &str = "
    local time = redis.call('TIME')
    redis.call('HSETNX', KEYS[1], 'epoch', time[1] .. string.format('%06d', time[2]))";

static SEED: LazyLock<Script> = LazyLock::new(|| Script::new(SEEDED));

static ADVANCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{SEEDED}
        for at = 3, #ARGV do redis.call('HINCRBY', KEYS[1], ARGV[at], 1) end
        if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end"
    ))
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

fn three(replies: Vec<Value>) -> Result<[Value; 3], RedisError> {
    replies.try_into().map_err(|_| RedisError::from((redis::ErrorKind::UnexpectedReturnType, "not three replies")))
}

fn unpack(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    /// What nobody would have compressed.
    const MAX_BYTES: usize = 64 << 20;
    match bytes.first()? {
        b'p' => {
            bytes.remove(0);
            Some(bytes)
        }
        b'z' => {
            let (size, packed) = lz4_flex::block::uncompressed_size(&bytes[1..]).ok()?;
            if size > MAX_BYTES {
                return None;
            }
            lz4_flex::block::decompress(packed, size).ok()
        }
        _ => None,
    }
}

/// How long nothing is heard before a subscription is asked whether it is there, and how long it may take to say so.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Waits for the next invalidation. Without an answer to a ping the subscription is over: a server that hangs closes nothing.
async fn next(mut subscription: (PubSubSink, PubSubStream)) -> Option<(Invalidation, (PubSubSink, PubSubStream))> {
    let (sink, messages) = &mut subscription;
    loop {
        match timeout(HEARTBEAT, messages.next()).await {
            Ok(message) => return Some((Invalidation::decode(message?.get_payload_bytes())?, subscription)),
            Err(_) => timeout(HEARTBEAT, sink.ping::<Value>()).await.ok()?.ok()?,
        };
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> SecondLevel for RedisLevel<C> {
    fn get<'a>(&'a self, key: &'a [u8], domains: &'a [u32]) -> LevelFuture<'a, Read> {
        Box::pin(async move { self.read(key, domains).await.map_err(LevelError::new) })
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        Box::pin(async move { self.write(values).await.map_err(LevelError::new) })
    }

    fn advance<'a>(&'a self, origin: u64, domains: &'a [u32]) -> LevelFuture<'a, ()> {
        Box::pin(async move { self.advance_all(origin, domains).await.map_err(LevelError::new) })
    }

    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool> {
        Box::pin(async move {
            let millis = u64::try_from(lease.as_millis()).unwrap_or(MAX_MILLIS).clamp(1, MAX_MILLIS);
            let mut set = redis::cmd("SET");
            set.arg(self.key('l', &self.place(key))).arg(token).arg("NX").arg("PX").arg(millis);
            let is_set: Option<String> =
                set.query_async(&mut self.connection.clone()).await.map_err(LevelError::new)?;
            Ok(is_set.is_some())
        })
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            let mut step = RELEASE.key(self.key('l', &self.place(key)));
            step.arg(token).invoke_async::<()>(&mut self.connection.clone()).await.map_err(LevelError::new)
        })
    }

    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>> {
        let clients = &self.settings.subscribers;
        let at = self.settings.next.fetch_add(1, Ordering::Relaxed) % clients.len().max(1);
        let client = clients.get(at)?;
        Some(Box::pin(async move {
            let mut subscription = client.get_async_pubsub().await.map_err(LevelError::new)?;
            subscription.subscribe(self.channel()).await.map_err(LevelError::new)?;
            Ok(stream::unfold(subscription.split(), next).boxed())
        }))
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
