//! The second level, which replicas share: [`SecondLevel`].

pub(super) mod memory;
#[cfg(feature = "redis")]
pub(super) mod redis;
pub(super) mod resilient;

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;

use crate::ConfigError;
use crate::explain::Description;

/// The stream of invalidations. It ends when one may have been missed.
pub type Subscription = Pin<Box<dyn Stream<Item = Invalidation> + Send>>;

/// A store behind the memory of the process, in which replicas share values and invalidations.
///
/// The cache bounds the time of every step, ignores a level that fails, and checks the values that it gets: a damaged value counts as
/// none. So an implementation is as simple as its store. It must keep the order of invalidations: each takes the next number, a value
/// is put with the number that was the last before it was loaded, and a reader that finds a larger number for its keys drops the value.
///
/// A store may lose its last writes when it fails over or restarts, and invalidations with them. Caches remember the numbers of
/// the invalidations that they made or received, use no older value, and [raise](Self::raise) a level that has lost one.
///
/// Every time here is a duration. It begins when the level takes the step, and the level measures it by its own clock, which all
/// replicas share, and never by the clock of a process. The cache computes the age of a value from the time that the level says is left.
///
/// An invalidation key is a number of 64 bits. A level may forget keys that were invalidated long ago if it answers for every key that
/// it does not know with the largest number that it has forgotten.
///
/// [`second_level_contract`](crate::testing::second_level_contract) checks an implementation. A later version adds methods only with a
/// default. The trait is an [`async_trait`](https://docs.rs/async-trait): write `#[async_trait]` above your `impl`. See
/// [an example](crate::cached#a-second-level-of-your-own).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a second level of a cache",
    label = "not a `SecondLevel`",
    note = "the levels of this crate are `RedisLevel` and `MemoryLevel`"
)]
#[async_trait]
pub trait SecondLevel: Send + Sync + 'static {
    /// Reads the value of `key` and how long it will be kept, and after that the number of the last invalidation of one of
    /// `invalidation_keys`.
    async fn get(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, LevelError>;

    /// Keeps values, each for its ttl.
    async fn put(&self, values: &[Put]) -> Result<(), LevelError>;

    /// Records that each of `invalidation_keys` is invalidated now, and then sends the invalidation to all subscribers. Returns the
    /// number that it has taken. `origin` is the number of the replica that invalidates.
    async fn invalidate(&self, origin: u64, invalidation_keys: &[u64]) -> Result<u64, LevelError>;

    /// Learns that one of `invalidation_keys` was invalidated with `number`. If the level does not know that, it has lost this
    /// invalidation and perhaps others: then no value that was put before is valid, and the next numbers are larger than `number`.
    ///
    /// A level that keeps its values on several servers needs to do so only on the server of `key`.
    async fn raise(&self, key: &[u8], invalidation_keys: &[u64], number: u64) -> Result<(), LevelError>;

    /// Takes the lease of `key` for the time `lease`, from now, and returns true; or returns false if another owner has it. `token` is
    /// the owner.
    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError>;

    /// Releases the lease of `key` if `token` still owns it.
    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError>;

    /// Subscribes to invalidations. `None` if the level has no subscriptions.
    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError>;

    /// Returns the text by which an [explanation](crate::explain()) names the level. Default: the name of its type.
    fn describe(&self) -> String {
        Description::of::<Self>().name().to_owned()
    }

    /// Checks the settings of the level. A cache that has it as its second level checks it with its own settings.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a setting that cannot work. Default: none.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// The answer of a [`SecondLevel`] for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// The value, and for how long it will still be kept.
    pub value: Option<(Vec<u8>, Duration)>,
    /// The number of the last invalidation of anything.
    pub generation: Generation,
    /// The number of the last invalidation of one of the keys that were asked for. A larger number that was taken is allowed, a smaller
    /// one never.
    pub invalidated: u64,
}

impl Read {
    /// Creates one from its parts.
    #[must_use]
    pub fn new(value: Option<(Vec<u8>, Duration)>, generation: Generation, invalidated: u64) -> Self {
        Self { value, generation, invalidated }
    }

    /// Says whether a value that was loaded in this generation, or later, is still valid.
    #[must_use]
    pub fn is_current(&self, loaded: Generation) -> bool {
        let now = self.generation;
        // A number that is not taken yet is from before the level was reset to an older state.
        loaded.epoch == now.epoch && self.invalidated <= loaded.number && loaded.number <= now.number
    }
}

/// A point in the order of invalidations of a [`SecondLevel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// The epoch: a number above zero. A level that has lost invalidations begins a new one, with a number that it never had before.
    pub epoch: u64,
    /// The last number that an invalidation has taken. It never becomes smaller.
    pub number: u64,
}

impl Generation {
    /// Creates one from its parts.
    #[must_use]
    pub const fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }
}

/// A value to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Put {
    /// The key of the value: any bytes, of any length.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// How long it is kept, from now: at least a millisecond.
    pub ttl: Duration,
}

impl Put {
    /// Creates one from its parts.
    #[must_use]
    pub fn new(key: Vec<u8>, value: Vec<u8>, ttl: Duration) -> Self {
        Self { key, value, ttl }
    }
}

/// An invalidation, as a replica sends it to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidation {
    /// The replica that invalidates. It has applied the invalidation already.
    pub origin: u64,
    /// The number that the invalidation has taken, or zero.
    pub number: u64,
    /// The invalidation keys.
    pub keys: Vec<u64>,
}

impl Invalidation {
    /// Creates one from its parts.
    #[must_use]
    pub fn new(origin: u64, number: u64, keys: Vec<u64>) -> Self {
        Self { origin, number, keys }
    }

    /// Encodes it for a channel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(17 + 8 * self.keys.len());
        message.push(VERSION);
        message.extend_from_slice(&self.origin.to_le_bytes());
        message.extend_from_slice(&self.number.to_le_bytes());
        self.keys.iter().for_each(|key| message.extend_from_slice(&key.to_le_bytes()));
        message
    }

    /// Decodes a message of [`encode`](Self::encode). `None` for any other message.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (numbers, []) = message.strip_prefix(&[VERSION])?.as_chunks() else { return None };
        let (head, keys) = numbers.split_first_chunk()?;
        let [origin, number] = head.map(u64::from_le_bytes);
        Some(Self::new(origin, number, keys.iter().map(|key| u64::from_le_bytes(*key)).collect()))
    }
}

/// The first byte of a message.
const VERSION: u8 = 3;

/// The reason why a step of a [`SecondLevel`] failed. Its text appears in logs only.
#[derive(Debug)]
pub struct LevelError(Box<dyn Error + Send + Sync>);

impl LevelError {
    /// Creates one from an error or a text.
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

#[async_trait]
impl<L: SecondLevel + ?Sized> SecondLevel for Arc<L> {
    async fn get(&self, key: &[u8], invalidation_keys: &[u64]) -> Result<Read, LevelError> {
        (**self).get(key, invalidation_keys).await
    }

    async fn put(&self, values: &[Put]) -> Result<(), LevelError> {
        (**self).put(values).await
    }

    async fn invalidate(&self, origin: u64, invalidation_keys: &[u64]) -> Result<u64, LevelError> {
        (**self).invalidate(origin, invalidation_keys).await
    }

    async fn raise(&self, key: &[u8], invalidation_keys: &[u64], number: u64) -> Result<(), LevelError> {
        (**self).raise(key, invalidation_keys, number).await
    }

    async fn acquire(&self, key: &[u8], token: u64, lease: Duration) -> Result<bool, LevelError> {
        (**self).acquire(key, token, lease).await
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<(), LevelError> {
        (**self).release(key, token).await
    }

    async fn subscribe(&self) -> Result<Option<Subscription>, LevelError> {
        (**self).subscribe().await
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }
}
