//! The commands of a level in Redis, one round trip each.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{FromRedisValue, Pipeline, RedisError, ScriptInvocation, SetExpiry, SetOptions, Value};

use super::RedisLevel;
use super::compression;
use super::scripts::{INVALIDATE, RAISE, RELEASE};
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::second_level::{Generation, Invalidation, Put, Read};
use crate::clock::millis;
use crate::telemetry::Warning;

/// Members of the sorted set that are not invalidation keys: the epoch, the last number that was taken, and the largest number that was
/// forgotten.
const BOOKKEEPING: [&str; 3] = ["epoch", "last", "floor"];
/// How many invalidation keys a shard keeps with their numbers.
const MAX_KEYS: usize = 65_536;

impl RedisLevel {
    pub(super) async fn read(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, RedisError> {
        let place = self.place(key);
        let (value_key, invalidations_key) = (self.key('v', &place), self.invalidations_key(place.shard));
        // Before the read: the reply need not contain a number that is seen meanwhile.
        let seen = self.seen(place.shard);
        let scores = scores(&invalidations_key, invalidation_keys);
        let mut pipeline = Pipeline::with_capacity(3);
        // The remaining time first: then it is that of the value, or the shorter one of an earlier value.
        pipeline.pttl(&value_key).get(&value_key).add_command(scores.clone());
        let connection = &mut self.connection.clone();
        let [remaining, value, found] = three(pipeline.ignore_errors().query_async(connection).await?)?;
        let mut numbers = numbers(found)?;
        if !numbers.are_known(seen) {
            // A new epoch begins, in which no value was put yet.
            self.step(&RAISE, place.shard, seen).arg(0).invoke_async::<()>(connection).await?;
            if numbers.generation.epoch != 0 {
                static LOST: Warning = Warning::new();
                if let Some(unsaid) = LOST.due() {
                    tracing::warn!(
                        shard = place.shard,
                        unsaid,
                        "Redis has lost its last writes, so the cache drops the values of this shard"
                    );
                }
            }
            numbers = self::numbers(scores.query_async(connection).await?)?;
            if !numbers.are_known(seen) {
                return Err(error(
                    "Redis answers with an older state than before, as a replica does: read from the primary",
                ));
            }
        }
        self.settings.seen[usize::from(place.shard)].note(numbers.generation);
        let value = match (value, remaining) {
            (Value::BulkString(bytes), Value::Int(millis @ 1..)) => {
                compression::decode(bytes).map(|value| (value, Duration::from_millis(millis.unsigned_abs())))
            }
            // No value, a value that expires now, or another type under the same name.
            _ => None,
        };
        Ok(Read::new(value, numbers.generation, numbers.invalidated))
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
            let value = compression::encode(&put.value, self.settings.compress_above);
            pipelines[at].1.set_options(self.key('v', &place), value, options).ignore();
        }
        let connections = pipelines.iter().map(|(_, pipeline)| {
            let mut connection = self.connection.clone();
            async move { pipeline.query_async::<()>(&mut connection).await }
        });
        try_join_all(connections).await.map(|_| ())
    }

    pub(super) async fn invalidate_all(&self, origin: u64, invalidation_keys: &[u64]) -> Result<u64, RedisError> {
        let shards = self.settings.shards;
        let message = |number| Invalidation::new(origin, number, invalidation_keys.to_vec()).encode();
        if shards == 1 {
            return self.take_number(0, None, Some(&message(0)), invalidation_keys).await;
        }
        // One number for all shards, since a process that remembers it does not know the shard of a value.
        let first = self.take_number(0, None, None, invalidation_keys).await?;
        let take = |(shard, number)| self.take_number(shard, Some(number), None, invalidation_keys);
        let others = try_join_all((1..shards).map(|shard| take((shard, first)))).await?;
        let taken: Vec<_> = [first].into_iter().chain(others).collect();
        let number = taken.iter().copied().max().unwrap_or(first);
        // Other invalidations may have come to a shard first. The shards that are behind take the number once more.
        let behind = (0..shards).zip(&taken).filter(|(_, taken)| **taken < number);
        try_join_all(behind.map(|(shard, _)| take((shard, number)))).await?;
        // The message is sent after all shards know.
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.channel()).arg(message(number));
        publish.query_async::<()>(&mut self.connection.clone()).await?;
        Ok(number)
    }

    /// Records in one shard that keys are invalidated, with a number of `at_least`, or of now.
    async fn take_number(
        &self,
        shard: u16,
        at_least: Option<u64>,
        message: Option<&[u8]>,
        invalidation_keys: &[u64],
    ) -> Result<u64, RedisError> {
        /// The bytes of the number in a message.
        const NUMBER: std::ops::Range<usize> = 9..17;
        let mut step = self.step(&INVALIDATE, shard, self.seen(shard));
        step.arg(at_least.map(|number| number.to_string()).unwrap_or_default()).arg(MAX_KEYS);
        let message = message.map(|message| (&message[..NUMBER.start], &message[NUMBER.end..])).unwrap_or_default();
        step.arg(message.0).arg(message.1);
        for key in invalidation_keys {
            step.arg(*key);
        }
        let number: u64 = step.invoke_async(&mut self.connection.clone()).await?;
        self.settings.seen[usize::from(shard)].note_number(number);
        Ok(number)
    }

    pub(super) async fn raise_to(&self, key: &[u8], invalidation_keys: &[u64], number: u64) -> Result<(), RedisError> {
        let shard = self.place(key).shard;
        self.settings.seen[usize::from(shard)].note_number(number);
        let mut step = self.step(&RAISE, shard, self.seen(shard));
        step.arg(number);
        for key in invalidation_keys {
            step.arg(*key);
        }
        step.invoke_async(&mut self.connection.clone()).await
    }

    fn seen(&self, shard: u16) -> Generation {
        self.settings.seen[usize::from(shard)].now()
    }

    /// A script on the invalidations of a shard, with the numbers that this process has seen.
    fn step<'a>(&self, script: &'a redis::Script, shard: u16, seen: Generation) -> ScriptInvocation<'a> {
        // Without a number: the shard knows it, and the other shards have lost nothing.
        let everything = Invalidation::new(0, 0, vec![InvalidationKey::ALL.number()]);
        let mut step = script.prepare_invoke();
        step.key(self.invalidations_key(shard)).arg(seen.epoch).arg(seen.number);
        step.arg(self.channel()).arg(everything.encode());
        step
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

/// An expiry in milliseconds, at least 1: Redis refuses zero.
fn expiry(time: Duration) -> u64 {
    millis(time).max(1)
}

/// Reads the numbers of the bookkeeping members and of the keys.
fn scores(invalidations_key: &str, invalidation_keys: &[u64]) -> redis::Cmd {
    let mut command = redis::cmd("ZMSCORE");
    command.arg(invalidations_key).arg(&BOOKKEEPING).arg(invalidation_keys);
    command
}

/// The numbers of a shard.
struct Numbers {
    generation: Generation,
    /// The largest number of the keys that were asked for.
    invalidated: u64,
}

impl Numbers {
    /// Says whether the shard has numbers, and has lost none that this process has seen.
    fn are_known(&self, seen: Generation) -> bool {
        let Generation { epoch, number } = self.generation;
        epoch != 0 && seen.epoch <= epoch && seen.number <= number
    }
}

fn numbers(scores: Value) -> Result<Numbers, RedisError> {
    let scores = Vec::<Option<f64>>::from_redis_value(scores.extract_error()?)?;
    let mut numbers = scores.into_iter().map(|score| number(score.unwrap_or_default()));
    let [epoch, last] = [numbers.next(), numbers.next()].map(Option::unwrap_or_default);
    Ok(Numbers { generation: Generation::new(epoch, last), invalidated: numbers.max().unwrap_or_default() })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number, and not negative")]
fn number(score: f64) -> u64 {
    score as u64
}

fn three(replies: Vec<Value>) -> Result<[Value; 3], RedisError> {
    replies.try_into().map_err(|_| error("Redis has not sent three replies"))
}

fn error(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, what))
}
