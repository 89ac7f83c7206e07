//! The steps of a level in Redis, one round trip each.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, Pipeline, RedisError, Script, SetExpiry, SetOptions, Value};

use super::packing::{pack, unpack};
use super::{Invalidation, Put, Read, RedisLevel};
use crate::clock::millis;

/// The field of the generations that says which life of theirs this is.
const EPOCH: &str = "epoch";

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisLevel<C> {
    pub(super) async fn read(&self, key: &[u8], domains: &[u32]) -> Result<Read, RedisError> {
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

    pub(super) async fn write(&self, values: &[Put]) -> Result<(), RedisError> {
        let mut pipelines: Vec<(u16, Pipeline)> = Vec::new();
        for put in values {
            let place = self.place(&put.key);
            let at = pipelines.iter().position(|(shard, _)| *shard == place.shard).unwrap_or_else(|| {
                pipelines.push((place.shard, Pipeline::new()));
                pipelines.len() - 1
            });
            let options = SetOptions::default().with_expiration(SetExpiry::PX(expiry(put.ttl)));
            let value = pack(&put.value, self.settings.compress_above);
            pipelines[at].1.set_options(self.key('v', &place), value, options).ignore();
        }
        let connections = pipelines.iter().map(|(_, pipeline)| {
            let mut connection = self.connection.clone();
            async move { pipeline.query_async::<()>(&mut connection).await }
        });
        try_join_all(connections).await.map(|_| ())
    }

    pub(super) async fn advance_all(&self, origin: u64, domains: &[u32]) -> Result<(), RedisError> {
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

    pub(super) async fn take_lease(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, RedisError> {
        let mut set = redis::cmd("SET");
        set.arg(self.key('l', &self.place(key))).arg(token).arg("NX").arg("PX").arg(expiry(lease));
        let is_set: Option<String> = set.query_async(&mut self.connection.clone()).await?;
        Ok(is_set.is_some())
    }

    pub(super) async fn return_lease(&self, key: &[u8], token: u64) -> Result<(), RedisError> {
        let mut step = RELEASE.key(self.key('l', &self.place(key)));
        step.arg(token).invoke_async::<()>(&mut self.connection.clone()).await
    }
}

/// As Redis takes it, which refuses an expiry of zero.
fn expiry(time: Duration) -> u64 {
    millis(time).max(1)
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
