use std::fmt;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{FromRedisValue, Script, ScriptInvocation};

use super::backend::{Claim, Claimed, Owner, Store, StoreError, StoreFuture};
use crate::clock::millis;
use crate::idempotency_keys::{AmbiguousCall, AmbiguousCalls, Page, Resolved};
use crate::replication::{self, Replication};

/// Keeps claims and answers in Redis, for all replicas.
///
/// Each step is one script on one key, so it fits a cluster. Leases and ages are measured by Redis' own
/// [clock](crate::idempotency_keys#clocks). Ambiguous calls are listed by a
/// scan of the database, 1,000 keys a page; in a cluster, list them through a store on a connection to each of its nodes.
///
/// A claim must not get lost: let Redis write to disk (`appendonly yes`), and evict no keys (`maxmemory-policy noeviction`, or
/// one of the `volatile-` policies, since a claim has no expiry).
///
/// # Failover
///
/// Redis acknowledges a write before its replicas have it. **A failover loses the last claims and answers, and a call whose claim is
/// lost is made a second time.** What helps:
///
/// - [`with_replicas`](Self::with_replicas) makes a call only once its claim is on so many replicas. Nothing is lost then as long as
///   one of these becomes the primary: wait for all of them, or for a majority where the failover chooses the replica that has most.
/// - `min-replicas-to-write` and `min-replicas-max-lag` let a primary refuse writes that no replica follows: it limits how much is
///   lost, to what is written in that many seconds.
/// - Where no failover may ever lose a claim, keep the claims in PostgreSQL ([`SqlStore`](super::SqlStore)) with synchronous
///   replication.
#[derive(Clone)]
#[must_use]
pub struct RedisStore<C> {
    connection: C,
    prefix: String,
    replication: Option<Replication>,
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// On any connection whose clones share it: a [`RedisConnection`](crate::RedisConnection), which is replaced once it does not
    /// answer, or [another one](crate::RedisConnection#other-connections).
    pub fn new(connection: C) -> Self {
        Self { connection, prefix: "mcp-patterns:idempotency:".to_owned(), replication: None }
    }

    /// Sets how the names of the keys begin. Default: `mcp-patterns:idempotency:`.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets a claim, an answer and a resolution count only once this many replicas have it, within `timeout` (a millisecond at
    /// least). A claim that too few have is taken back, and the call is not made: it is `unavailable`. An answer that too few
    /// have is `"not_recorded"`. If Redis fails over in between, either may be there all the same; then the key belongs to an
    /// ambiguous call.
    ///
    /// Redis takes nothing else from a connection while it waits (`WAIT`): give the store a connection of its own, and a `timeout`
    /// below the response timeout of that (500 ms by default) and well below the [store's](crate::IdempotentTool::with_store_timeout). Each new claim and each answer
    /// takes the time of a round trip to the replicas, one after the other; without a replica, the whole `timeout`. Default: none is waited for.
    pub fn with_replicas(mut self, replicas: NonZeroU32, timeout: Duration) -> Self {
        self.replication = Some(Replication { replicas, timeout });
        self
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }
}

/// A hash for each call: `fingerprint`, `tool`, `key`, the owner's `token`, the end of the `lease` (below 0: abandoned since then), how
/// long it is `kept` after that and, once there is one, the `record`. A hash expires that has a record, or is not kept for ever.
///
/// The store may send a step again by itself (a cluster's client does): a claim by the token that has it is granted again.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local fingerprint, token, lease, takes_over = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
        local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'lease', 'record')
        if known[1] then
            if known[1] ~= fingerprint then return {'other'} end
            if known[4] then return {'done', known[4]} end
            if known[2] ~= token then
                if tonumber(known[3]) > now then return {'running'} end
                if takes_over ~= '1' then return {'ambiguous', age(known[3])} end
            end
        end
        redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'token', token, 'lease', after(lease),
            'tool', ARGV[5], 'key', ARGV[6], 'kept', ARGV[7])
        keep(lease, ARGV[7])
        return {'new'}",
    )
});

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'lease', 'record', 'kept')
        if known[1] ~= ARGV[1] or tonumber(known[2]) <= 0 or known[3] then return 0 end
        redis.call('HSET', KEYS[1], 'lease', after(ARGV[2]))
        keep(ARGV[2], known[4])
        return 1",
    )
});

/// What is recorded already is recorded again: since Redis 7.2, `WAIT` is about what its connection has written.
static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record')
        if known[1] ~= ARGV[1] or known[2] and known[2] ~= ARGV[2] then return 0 end
        redis.call('HSET', KEYS[1], 'record', ARGV[2])
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
        return 1",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record')
        if known[1] ~= ARGV[1] or known[2] then return 0 end
        return redis.call('DEL', KEYS[1])",
    )
});

static ABANDON: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'token', 'record', 'lease', 'kept')
        if known[1] ~= ARGV[1] or known[2] then return 0 end
        if tonumber(known[3]) > 0 then
            redis.call('HSET', KEYS[1], 'lease', '-' .. after(0))
            keep(0, known[4])
        end
        return 1",
    )
});

static RESOLVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'lease', 'record')
        if not known[1] then return 'unknown' end
        if known[3] then return 'answered' end
        if tonumber(known[2]) > now then return 'running' end
        if ARGV[1] == '1' then
            redis.call('HDEL', KEYS[1], 'token')
            redis.call('HSET', KEYS[1], 'record', ARGV[2])
            redis.call('PEXPIRE', KEYS[1], ARGV[3])
        else
            redis.call('DEL', KEYS[1])
        end
        return 'resolved'",
    )
});

static AMBIGUOUS: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
        if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {} end
        local known = redis.call('HMGET', KEYS[1], 'lease', 'record', 'tool', 'key')
        if not known[1] or known[2] or tonumber(known[1]) > now then return {} end
        return {known[3], known[4], age(known[1])}",
    )
});

/// A script that knows the time. Lua's own way to write a number would lose digits of it.
fn script(code: &str) -> Script {
    const CLOCK: &str = "
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local function after(millis) return string.format('%.0f', now + millis) end
        local function age(lease) return string.format('%.0f', math.max(0, now - math.abs(lease))) end
        local function keep(lease, kept)
            if kept and kept ~= '' then
                redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lease + kept))
            else
                redis.call('PERSIST', KEYS[1])
            end
        end";
    Script::new(&format!("{CLOCK}{code}"))
}

/// A text as a pattern that matches nothing else.
fn glob(text: &str) -> String {
    text.replace(|special: char| "*?[]^\\".contains(special), "?")
}

fn read_age(millis: &str) -> Result<Duration, StoreError> {
    millis.parse().map(Duration::from_millis).map_err(|_| rubbish(millis))
}

fn rubbish(answer: &str) -> StoreError {
    StoreError::unavailable(format!("Redis answered `{answer}`, which is no state of a claim"))
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// Reads the claims among the keys that Redis scans next.
    async fn scan(&self, page: Page<'_>) -> Result<AmbiguousCalls, StoreError> {
        let mut connection = self.connection.clone();
        let mut scan = redis::cmd("SCAN");
        scan.arg(page.after.unwrap_or("0")).arg("MATCH").arg(format!("{}{}*", glob(&self.prefix), glob(page.space)));
        let (next, keys): (String, Vec<String>) =
            scan.arg("COUNT").arg(page.limit).query_async(&mut connection).await.map_err(StoreError::unavailable)?;
        let mut calls = Vec::new();
        for key in keys {
            let Some(id) = key.strip_prefix(&self.prefix) else { continue };
            let known: Vec<String> =
                AMBIGUOUS.key(&key).invoke_async(&mut connection).await.map_err(StoreError::unavailable)?;
            if let [tool, key, age] = &known[..] {
                let (id, tool, key) = (id.to_owned(), tool.clone(), key.clone());
                calls.push(AmbiguousCall { id, tool, key, age: read_age(age)? });
            }
        }
        Ok(AmbiguousCalls { calls, next: Some(next).filter(|next| next != "0") })
    }

    async fn is_done(&self, script: &Script, owner: Owner<'_>, args: &[&str]) -> Result<bool, StoreError> {
        let mut step = script.prepare_invoke();
        step.key(self.key(owner.id)).arg(owner.token);
        for arg in args {
            step.arg(*arg);
        }
        let done: u8 = step.invoke_async(&mut self.connection.clone()).await.map_err(StoreError::unavailable)?;
        Ok(done == 1)
    }

    /// Takes a step that must not get lost, if it `has_written`.
    async fn take<T: FromRedisValue>(
        &self,
        step: &ScriptInvocation<'_>,
        has_written: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        let taken = replication::take(self.replication, step, &mut self.connection.clone(), has_written).await;
        taken.map_err(StoreError::unavailable)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisStore<C> {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn claim<'a>(&'a self, claim: Claim<'a>) -> StoreFuture<'a, Claimed> {
        Box::pin(async move {
            let mut step = CLAIM.prepare_invoke();
            step.key(self.key(claim.id)).arg(claim.fingerprint).arg(claim.token).arg(millis(claim.lease));
            step.arg(u8::from(claim.takes_over)).arg(claim.tool).arg(claim.key);
            step.arg(claim.kept_for.map(|kept_for| millis(kept_for).to_string()).unwrap_or_default());
            let mut answer = step.invoke_async(&mut self.connection.clone()).await.map_err(StoreError::unavailable)?;
            // A duplicate waits for no replica. The owner of the token is granted its claim once more.
            let is_new = |answer: &Vec<String>| answer.iter().eq(["new"]);
            if self.replication.is_some() && is_new(&answer) {
                answer = self.take(&step, is_new).await?;
            }
            let mut answer = answer.into_iter();
            match (answer.next().unwrap_or_default().as_str(), answer.next()) {
                ("new", None) => Ok(Claimed::New),
                ("other", None) => Ok(Claimed::Other),
                ("running", None) => Ok(Claimed::Running),
                ("ambiguous", Some(age)) => Ok(Claimed::Ambiguous { age: read_age(&age)? }),
                ("done", Some(record)) => Ok(Claimed::Done(record)),
                (other, _) => Err(rubbish(other)),
            }
        })
    }

    fn renew<'a>(&'a self, owner: Owner<'a>, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move { self.is_done(&RENEW, owner, &[&millis(lease).to_string()]).await })
    }

    fn complete<'a>(&'a self, owner: Owner<'a>, record: &'a str, ttl: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut step = COMPLETE.prepare_invoke();
            step.key(self.key(owner.id)).arg(owner.token).arg(record).arg(millis(ttl));
            self.take(&step, |done: &u8| *done == 1).await.map(|done| done == 1)
        })
    }

    fn release<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(self.is_done(&RELEASE, owner, &[]))
    }

    fn abandon<'a>(&'a self, owner: Owner<'a>) -> StoreFuture<'a, bool> {
        Box::pin(self.is_done(&ABANDON, owner, &[]))
    }

    fn resolve<'a>(&'a self, id: &'a str, record: Option<&'a str>, ttl: Duration) -> StoreFuture<'a, Resolved> {
        Box::pin(async move {
            let mut step = RESOLVE.prepare_invoke();
            step.key(self.key(id)).arg(u8::from(record.is_some())).arg(record.unwrap_or_default()).arg(millis(ttl));
            let answer = self.take(&step, |answer: &String| answer == "resolved").await?;
            match answer.as_str() {
                "resolved" => Ok(Resolved::Yes),
                "unknown" => Ok(Resolved::Unknown),
                "running" => Ok(Resolved::Running),
                "answered" => Ok(Resolved::Answered),
                other => Err(rubbish(other)),
            }
        })
    }

    fn ambiguous<'a>(&'a self, page: Page<'a>) -> StoreFuture<'a, AmbiguousCalls> {
        Box::pin(self.scan(page))
    }
}

impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
