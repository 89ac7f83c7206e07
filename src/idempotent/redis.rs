use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation};

use self::scripts::{ABANDON, AMBIGUOUS, CLAIM, COMPLETE, RELEASE, RENEW, RESOLVE};
use super::backend::{Backend, BackendError, Claim, Claimed, Owner};
use crate::clock::millis;
use crate::idempotency_keys::{AmbiguousCall, AmbiguousCalls, Page, Resolved};
use crate::replication::{self, Replication};
use crate::{AnyRedisConnection, ConfigError};

mod scripts;

/// Keeps claims and answers in Redis, for all replicas.
///
/// Each step is one script on one key, so it works in a cluster. Redis' own [clock](crate::idempotency_keys#clocks) measures leases and
/// ages. Ambiguous calls are listed by a scan of the database, 1,000 keys a page. In a cluster, list them through one backend for each
/// of its nodes.
///
/// A claim must not get lost: let Redis write to disk (`appendonly yes`), and let it evict no keys (`maxmemory-policy noeviction`, or
/// one of the `volatile-` policies, since a claim has no expiry).
///
/// # Failover
///
/// Redis acknowledges a write before its replicas have it. **A failover loses the last claims and answers, and a call whose claim is
/// lost is made a second time.** Three things help:
///
/// - [`with_replicas`](Self::with_replicas) makes a call only once its claim is on that many replicas. Then no claim is lost as long as
///   one of these replicas becomes the primary: wait for all of them, or for a majority if the failover chooses the replica that has
///   most.
/// - `min-replicas-to-write` and `min-replicas-max-lag` of Redis let a primary refuse writes that no replica follows. They limit the
///   loss to the writes of that many seconds.
/// - If no failover may ever lose a claim, keep the claims in PostgreSQL ([`SqlBackend`](super::SqlBackend)) with synchronous
///   replication.
#[derive(Clone)]
#[must_use]
pub struct RedisBackend {
    connection: AnyRedisConnection,
    prefix: String,
    /// How many replicas must have a write, and the timeout of the wait for them.
    replicas: Option<(usize, Duration)>,
}

impl RedisBackend {
    /// Creates a backend on a [`RedisConnection`](crate::RedisConnection), which is replaced when it does not answer, or on [another
    /// connection](crate::RedisConnection#other-connections) whose clones share it.
    pub fn new(connection: impl Into<AnyRedisConnection>) -> Self {
        Self { connection: connection.into(), prefix: "mcp-patterns:idempotency:".to_owned(), replicas: None }
    }

    /// Sets how the names of the keys begin. Default: `mcp-patterns:idempotency:`.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets a claim, an answer and a resolution count only once this many replicas have it, within `timeout` (at least 1 ms). If too few
    /// replicas have a claim, it is taken back and the call is not made: the answer is `unavailable`. If too few have an answer, it is
    /// `"not_recorded"`. If Redis fails over in between, either may exist anyway; then the key belongs to an ambiguous call.
    ///
    /// Redis takes no other command from a connection while it waits (`WAIT`): give the backend a connection of its own, and a `timeout`
    /// below the response timeout of that connection (500 ms by default) and well below the
    /// [backend's](crate::IdempotentTool::with_backend_timeout). Each new claim and each answer takes a round trip to the replicas more,
    /// one write after the other; without a replica, it takes the whole `timeout`. Default: it waits for none.
    pub fn with_replicas(mut self, replicas: usize, timeout: Duration) -> Self {
        self.replicas = Some((replicas, timeout));
        self
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// Reads the claims among the keys that Redis scans next.
    async fn scan(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        let mut connection = self.connection.clone();
        let mut scan = redis::cmd("SCAN");
        scan.arg(page.after.unwrap_or("0")).arg("MATCH").arg(format!("{}{}*", glob(&self.prefix), glob(page.space)));
        let (next, keys): (String, Vec<String>) =
            scan.arg("COUNT").arg(page.limit).query_async(&mut connection).await.map_err(BackendError::unavailable)?;
        let mut calls = Vec::new();
        for key in keys {
            let Some(id) = key.strip_prefix(&self.prefix) else { continue };
            let known: Vec<String> =
                AMBIGUOUS.key(&key).invoke_async(&mut connection).await.map_err(BackendError::unavailable)?;
            if let [tool, key, age] = &known[..] {
                let (id, tool, key) = (id.to_owned(), tool.clone(), key.clone());
                calls.push(AmbiguousCall { id, tool, key, age: read_age(age)? });
            }
        }
        Ok(AmbiguousCalls { calls, next: Some(next).filter(|next| next != "0") })
    }

    async fn is_done(&self, script: &Script, owner: Owner<'_>, args: &[&str]) -> Result<bool, BackendError> {
        let mut step = script.prepare_invoke();
        step.key(self.key(owner.id)).arg(owner.token);
        for arg in args {
            step.arg(*arg);
        }
        let done: u8 = step.invoke_async(&mut self.connection.clone()).await.map_err(BackendError::unavailable)?;
        Ok(done == 1)
    }

    fn replication(&self) -> Option<Replication> {
        let (replicas, timeout) = self.replicas?;
        let replicas = NonZeroU32::new(u32::try_from(replicas).unwrap_or(u32::MAX))?;
        Some(Replication { replicas, timeout })
    }

    /// Takes a step that must not be lost in a failover, if it `has_written`.
    async fn take<T: FromRedisValue>(
        &self,
        step: &ScriptInvocation<'_>,
        has_written: impl FnOnce(&T) -> bool,
    ) -> Result<T, BackendError> {
        let taken = replication::take(self.replication(), step, &mut self.connection.clone(), has_written).await;
        taken.map_err(BackendError::unavailable)
    }
}

/// Makes a pattern that matches the text and, in place of its special characters, any others.
fn glob(text: &str) -> String {
    text.replace(|special: char| "*?[]^\\".contains(special), "?")
}

fn read_age(millis: &str) -> Result<Duration, BackendError> {
    millis.parse().map(Duration::from_millis).map_err(|_| unreadable(millis))
}

fn unreadable(answer: &str) -> BackendError {
    BackendError::unavailable(format!("Redis answered `{answer}`, which is no state of a claim"))
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

    async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, BackendError> {
        let mut step = CLAIM.prepare_invoke();
        step.key(self.key(claim.id)).arg(claim.fingerprint).arg(claim.token).arg(millis(claim.lease));
        step.arg(u8::from(claim.takes_over)).arg(claim.tool).arg(claim.key);
        step.arg(claim.kept_for.map(|kept_for| millis(kept_for).to_string()).unwrap_or_default());
        let mut answer = step.invoke_async(&mut self.connection.clone()).await.map_err(BackendError::unavailable)?;
        // A duplicate waits for no replica. The owner of the token is granted its claim once more.
        let is_new = |answer: &Vec<String>| answer.iter().eq(["new"]);
        if self.replicas.is_some() && is_new(&answer) {
            answer = self.take(&step, is_new).await?;
        }
        let mut answer = answer.into_iter();
        match (answer.next().unwrap_or_default().as_str(), answer.next()) {
            ("new", None) => Ok(Claimed::New),
            ("other", None) => Ok(Claimed::Other),
            ("running", None) => Ok(Claimed::Running),
            ("ambiguous", Some(age)) => Ok(Claimed::Ambiguous { age: read_age(&age)? }),
            ("done", Some(record)) => Ok(Claimed::Done(record)),
            (other, _) => Err(unreadable(other)),
        }
    }

    async fn renew(&self, owner: Owner<'_>, lease: Duration) -> Result<bool, BackendError> {
        self.is_done(&RENEW, owner, &[&millis(lease).to_string()]).await
    }

    async fn complete(&self, owner: Owner<'_>, record: &str, ttl: Duration) -> Result<bool, BackendError> {
        let mut step = COMPLETE.prepare_invoke();
        step.key(self.key(owner.id)).arg(owner.token).arg(record).arg(millis(ttl));
        self.take(&step, |done: &u8| *done == 1).await.map(|done| done == 1)
    }

    async fn release(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        self.is_done(&RELEASE, owner, &[]).await
    }

    async fn abandon(&self, owner: Owner<'_>) -> Result<bool, BackendError> {
        self.is_done(&ABANDON, owner, &[]).await
    }

    async fn resolve(&self, id: &str, record: Option<&str>, ttl: Duration) -> Result<Resolved, BackendError> {
        let mut step = RESOLVE.prepare_invoke();
        step.key(self.key(id)).arg(u8::from(record.is_some())).arg(record.unwrap_or_default()).arg(millis(ttl));
        let answer = self.take(&step, |answer: &String| answer == "resolved").await?;
        match answer.as_str() {
            "resolved" => Ok(Resolved::Yes),
            "unknown" => Ok(Resolved::Unknown),
            "running" => Ok(Resolved::Running),
            "answered" => Ok(Resolved::Answered),
            other => Err(unreadable(other)),
        }
    }

    async fn ambiguous(&self, page: Page<'_>) -> Result<AmbiguousCalls, BackendError> {
        self.scan(page).await
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
