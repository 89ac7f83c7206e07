//! Writes in Redis that are acknowledged only once replicas have them.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind, Value};

use crate::clock::millis;

/// The number of replicas that must have a write, and the timeout of the wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replication {
    pub(crate) replicas: NonZeroU32,
    pub(crate) timeout: Duration,
}

/// Runs a step. If it `has_written`, it succeeds only once enough replicas have the write.
///
/// `WAIT` waits for the writes of its own connection. So it is sent with the step, in one pipeline: after a reconnection, it would
/// have nothing to wait for, and succeed.
pub(crate) async fn take<T: FromRedisValue>(
    replication: Option<Replication>,
    step: &ScriptInvocation<'_>,
    connection: &mut impl ConnectionLike,
    has_written: impl FnOnce(&T) -> bool,
) -> Result<T, StepError> {
    let Some(Replication { replicas, timeout }) = replication else {
        return Ok(step.invoke_async(connection).await?);
    };
    let mut pipeline = Pipeline::with_capacity(2);
    // A timeout of zero would wait forever.
    pipeline.invoke_script(step).cmd("WAIT").arg(replicas.get()).arg(millis(timeout).max(1)).ignore_errors();
    let mut done = once(&pipeline, connection).await;
    if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
        step.load_async(connection).await?;
        done = once(&pipeline, connection).await;
    }
    let (answer, acknowledged) = done?;
    let answer = T::from_redis_value(answer)?;
    if !has_written(&answer) {
        return Ok(answer);
    }
    let acknowledged = acknowledged.extract_error().and_then(|count| Ok(u32::from_redis_value(count)?));
    match acknowledged.map_err(StepError::not_replicated)? {
        acknowledged if acknowledged < replicas.get() => {
            Err(StepError::not_replicated(TooFew { acknowledged, replicas }))
        }
        _ => Ok(answer),
    }
}

/// The failure of a step.
#[derive(Debug)]
pub(crate) enum StepError {
    Redis(RedisError),
    /// The step took effect, but too few replicas have it.
    NotReplicated(Box<dyn Error + Send + Sync>),
}

impl StepError {
    fn not_replicated(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::NotReplicated(error.into())
    }
}

impl<E: Into<RedisError>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Redis(error.into())
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(error) => error.fmt(f),
            Self::NotReplicated(error) => error.fmt(f),
        }
    }
}

impl Error for StepError {}

async fn once(pipeline: &Pipeline, connection: &mut impl ConnectionLike) -> Result<(Value, Value), RedisError> {
    let (answer, acknowledged): (Value, Value) = pipeline.query_async(connection).await?;
    Ok((answer.extract_error()?, acknowledged))
}

/// The write may be lost in a failover.
#[derive(Debug)]
struct TooFew {
    acknowledged: u32,
    replicas: NonZeroU32,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} replicas have acknowledged the write in time", self.acknowledged, self.replicas)
    }
}

impl Error for TooFew {}
