//! The steps of a level in Redis, one round trip each.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, Pipeline, RedisError, Script, SetExpiry, SetOptions, Value};

use super::packing::{pack, unpack};
use super::{Generation, Invalidation, Put, Read, RedisLevel};
use crate::clock::millis;

/// Members of the invalidations that are no keys: which life of theirs this is, the last number that was taken, and the largest
/// that was forgotten.
const BESIDE: [&str; 3] = ["epoch", "last", "floor"];
/// How many keys are known with their numbers.
const MAX_KEYS: usize = 65_536;

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisLevel<C> {
    pub(super) async fn read(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, RedisError> {
        let place = self.place(key);
        let (value_key, invalidations_key) = (self.key('v', &place), self.invalidations_key(place.shard));
        let scores = scores(&invalidations_key, invalidation_keys);
        let mut pipeline = Pipeline::with_capacity(3);
        // The remaining time first: it is then that of the value, or of one that was there before and has less.
        pipeline.pttl(&value_key).get(&value_key).add_command(scores.clone());
        let connection = &mut self.connection.clone();
        let [remaining, value, found] = three(pipeline.ignore_errors().query_async(connection).await?)?;
        let found = Vec::<Option<f64>>::from_redis_value(found.extract_error()?)?;
        let found = match found.first() {
            Some(Some(_)) => found,
            // The invalidations of a shard that has none begin. No value was put with them.
            _ => {
                SEED.key(&invalidations_key).invoke_async::<()>(connection).await?;
                scores.query_async(connection).await?
            }
        };
        let mut numbers = found.into_iter().map(|score| number(score.unwrap_or_default()));
        let [epoch, last] = [numbers.next(), numbers.next()].map(Option::unwrap_or_default);
        let value = match (value, remaining) {
            (Value::BulkString(bytes), Value::Int(millis @ 1..)) => {
                unpack(bytes).map(|value| (value, Duration::from_millis(millis.unsigned_abs())))
            }
            // No value, one that ends now, or something else that has its name.
            _ => None,
        };
        Ok(Read::new(value, Generation::new(epoch, last), numbers.max().unwrap_or_default()))
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

    pub(super) async fn invalidate_all(&self, origin: u64, invalidation_keys: &[u64]) -> Result<(), RedisError> {
        let message = Invalidation::new(origin, invalidation_keys.to_vec()).encode();
        let invalidate = |shard: u16, channel: String| {
            let mut connection = self.connection.clone();
            let mut step = INVALIDATE.prepare_invoke();
            step.key(self.invalidations_key(shard)).arg(channel).arg(message.as_slice()).arg(MAX_KEYS);
            invalidation_keys.iter().for_each(|key| {
                step.arg(*key);
            });
            async move { step.invoke_async::<()>(&mut connection).await }
        };
        // Nobody is told before all shards know.
        try_join_all((1..self.settings.shards).map(|shard| invalidate(shard, String::new()))).await?;
        invalidate(0, self.channel()).await
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

/// Asks for the numbers of what is no key, and of keys.
fn scores(invalidations_key: &str, invalidation_keys: &[u64]) -> redis::Cmd {
    let mut command = redis::cmd("ZMSCORE");
    command.arg(invalidations_key).arg(&BESIDE).arg(invalidation_keys);
    command
}

/// Redis keeps numbers as floats, which are exact up to 2^53: microseconds until the year 2255.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number, and not negative")]
fn number(score: f64) -> u64 {
    score as u64
}

/// Begins the invalidations with the time, so that values from before they were evicted are from another life.
const SEEDED: &str = "
    local time = redis.call('TIME')
    local now = time[1] .. string.format('%06d', time[2])
    if not redis.call('ZSCORE', KEYS[1], 'epoch') then
        redis.call('ZADD', KEYS[1], now, 'epoch', now, 'last', now, 'floor')
    end";

static SEED: LazyLock<Script> = LazyLock::new(|| Script::new(SEEDED));

/// Numbers are times where they can be: after a restart from an old snapshot, none is taken twice. The first member is the epoch,
/// which is smaller than all others.
static INVALIDATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{SEEDED}
        local number = math.max(tonumber(now), redis.call('ZSCORE', KEYS[1], 'last') + 1)
        redis.call('ZADD', KEYS[1], number, 'last')
        for at = 4, #ARGV do redis.call('ZADD', KEYS[1], number, ARGV[at]) end
        local excess = redis.call('ZCARD', KEYS[1]) - 3 - ARGV[3]
        if excess > 0 then
            redis.call('ZREM', KEYS[1], 'floor')
            local floor = redis.call('ZRANGE', KEYS[1], excess, excess, 'WITHSCORES')[2]
            redis.call('ZREMRANGEBYRANK', KEYS[1], 1, excess)
            redis.call('ZADD', KEYS[1], floor, 'floor')
        end
        if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end"
    ))
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

fn three(replies: Vec<Value>) -> Result<[Value; 3], RedisError> {
    replies.try_into().map_err(|_| RedisError::from((redis::ErrorKind::UnexpectedReturnType, "not three replies")))
}
