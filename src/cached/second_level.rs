//! What stands behind the memory of one process: [`SecondLevel`].

pub(super) mod breaker;
pub(super) mod memory;
#[cfg(feature = "redis")]
pub(super) mod redis;
pub(super) mod resilient;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

/// What a step of a [`SecondLevel`] returns.
pub type LevelFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LevelError>> + Send + 'a>>;

/// The invalidations that arrive while a subscription holds. It ends when one may have been missed.
pub type Subscription = Pin<Box<dyn Stream<Item = Invalidation> + Send>>;

/// Where replicas share values, and tell each other which of them are wrong.
///
/// The cache bounds the time of every step, ignores a level that fails, and checks what it gets: a value that was damaged is
/// none. So an implementation is as simple as its store. What it must keep is the order of invalidations: each takes the
/// next number, a value is put with the number that was the last before it was loaded, and whoever reads a larger one for its
/// keys drops it.
///
/// A store may lose its last writes, when it fails over or restarts, and with them invalidations. Caches remember the numbers of
/// those that they made or heard of, use no value that is older, and [say so](Self::raise) where the level has lost one.
///
/// Every time here is a duration. It begins when the level takes the step, and the level measures it by its own clock, which all replicas
/// share: never by that of a process. The age of a value is worked out from what its level says is left of it.
///
/// What is invalidated is named by numbers of 64 bits. A level may forget those that were invalidated long ago, if it
/// answers for all that it does not know with the largest number that it has forgotten.
///
/// [`second_level_contract`](crate::testing::second_level_contract) checks an implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no second level of a cache",
    label = "not a `SecondLevel`",
    note = "the levels of this crate are `RedisLevel` and `MemoryLevel`"
)]
pub trait SecondLevel: Send + Sync + 'static {
    /// Reads the value of `key`, how long it will be kept, and then the number of the last invalidation of one of
    /// `invalidation_keys`.
    fn get<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64]) -> LevelFuture<'a, Read>;

    /// Keeps values, each for its time.
    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()>;

    /// Notes for each of `invalidation_keys` that it is invalidated now, and then tells all who are subscribed. Returns the number
    /// that this has taken.
    fn invalidate<'a>(&'a self, origin: u64, invalidation_keys: &'a [u64]) -> LevelFuture<'a, u64>;

    /// Hears that one of `invalidation_keys` was invalidated with `number`. Where the level does not know, it has lost that, and
    /// with it perhaps others: then no value that was put before is right any more, and the next numbers are larger than `number`.
    ///
    /// A level that keeps its values on several servers need do so only where it has `key`.
    fn raise<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64], number: u64) -> LevelFuture<'a, ()>;

    /// Takes the lease of `key` for `lease`, from now, unless somebody has it. Says whether it did.
    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool>;

    /// Gives the lease of `key` back, if `token` still has it.
    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()>;

    /// Begins to listen for invalidations; `None` where the level has no way to tell of them.
    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>>;
}

/// What a [`SecondLevel`] knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// The value, and for how long it will still be kept.
    pub value: Option<(Vec<u8>, Duration)>,
    /// The number of the last invalidation of anything.
    pub generation: Generation,
    /// The number of the last invalidation of one of the keys that were asked for, or a larger one of those that were taken; never
    /// a smaller one.
    pub invalidated: u64,
}

impl Read {
    /// Puts it together.
    #[must_use]
    pub fn new(value: Option<(Vec<u8>, Duration)>, generation: Generation, invalidated: u64) -> Self {
        Self { value, generation, invalidated }
    }

    /// Says whether a value that was loaded in this generation, or later, is still right.
    #[must_use]
    pub fn is_current(&self, loaded: Generation) -> bool {
        let now = self.generation;
        // A number that is not taken yet comes from before the level was reset to an older state.
        loaded.epoch == now.epoch && self.invalidated <= loaded.number && loaded.number <= now.number
    }
}

/// A moment in the life of a [`SecondLevel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// Which of its lives this is: a number, not zero, that it never had before when it has forgotten invalidations.
    pub epoch: u64,
    /// The last number that an invalidation has taken. It never becomes smaller.
    pub number: u64,
}

impl Generation {
    /// Puts it together.
    #[must_use]
    pub const fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }
}

/// A value to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Put {
    /// Whose value it is: any bytes, of any length.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// How long it is kept, from now: a millisecond at least.
    pub ttl: Duration,
}

impl Put {
    /// Puts it together.
    #[must_use]
    pub fn new(key: Vec<u8>, value: Vec<u8>, ttl: Duration) -> Self {
        Self { key, value, ttl }
    }
}

/// What a replica tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidation {
    /// Who says so. It has acted already.
    pub origin: u64,
    /// The number that this has taken, or zero.
    pub number: u64,
    /// What makes values wrong.
    pub keys: Vec<u64>,
}

impl Invalidation {
    /// Puts it together.
    #[must_use]
    pub fn new(origin: u64, number: u64, keys: Vec<u64>) -> Self {
        Self { origin, number, keys }
    }

    /// Writes it for a channel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(17 + 8 * self.keys.len());
        message.push(VERSION);
        message.extend_from_slice(&self.origin.to_le_bytes());
        message.extend_from_slice(&self.number.to_le_bytes());
        self.keys.iter().for_each(|key| message.extend_from_slice(&key.to_le_bytes()));
        message
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` where it did not.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (numbers, []) = message.strip_prefix(&[VERSION])?.as_chunks() else { return None };
        let (head, keys) = numbers.split_first_chunk()?;
        let [origin, number] = head.map(u64::from_le_bytes);
        Some(Self::new(origin, number, keys.iter().map(|key| u64::from_le_bytes(*key)).collect()))
    }
}

/// How a message begins.
const VERSION: u8 = 3;

/// Why a step of a [`SecondLevel`] failed. Nobody but the log sees its text.
#[derive(Debug)]
pub struct LevelError(Box<dyn Error + Send + Sync>);

impl LevelError {
    /// Wraps what went wrong.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for LevelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}

impl<L: SecondLevel + ?Sized> SecondLevel for Arc<L> {
    fn get<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64]) -> LevelFuture<'a, Read> {
        (**self).get(key, invalidation_keys)
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        (**self).put(values)
    }

    fn invalidate<'a>(&'a self, origin: u64, invalidation_keys: &'a [u64]) -> LevelFuture<'a, u64> {
        (**self).invalidate(origin, invalidation_keys)
    }

    fn raise<'a>(&'a self, key: &'a [u8], invalidation_keys: &'a [u64], number: u64) -> LevelFuture<'a, ()> {
        (**self).raise(key, invalidation_keys, number)
    }

    fn acquire<'a>(&'a self, key: &'a [u8], token: u64, lease: Duration) -> LevelFuture<'a, bool> {
        (**self).acquire(key, token, lease)
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> LevelFuture<'a, ()> {
        (**self).release(key, token)
    }

    fn subscribe(&self) -> Option<LevelFuture<'_, Subscription>> {
        (**self).subscribe()
    }
}
