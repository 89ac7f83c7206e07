//! What stands behind the memory of one process: [`SecondLevel`].

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
/// none. So an implementation is as simple as its store. What it must keep is the order of generations: a value is put
/// with the generations that were read before it was loaded, and dropped by whoever reads others with it.
///
/// [`second_level_contract`](crate::testing::second_level_contract) checks an implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no second level of a cache",
    label = "not a `SecondLevel`",
    note = "the levels of this crate are `RedisLevel` and `MemoryLevel`"
)]
pub trait SecondLevel: Send + Sync + 'static {
    /// Reads the value of `key`, how long it will be kept, and the generations of `domains`: no generation is older than the
    /// value's end, and the value no younger than the generations by more than a step that ran at the same time.
    fn get<'a>(&'a self, key: &'a [u8], domains: &'a [u32]) -> LevelFuture<'a, Read>;

    /// Keeps values, each for its time.
    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()>;

    /// Advances the generations of `domains`, and then tells all who are subscribed.
    fn advance<'a>(&'a self, origin: u64, domains: &'a [u32]) -> LevelFuture<'a, ()>;

    /// Takes the lease of `key` for `lease`, unless somebody has it. Says whether it did.
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
    /// A number for the level as a whole, which changes when it has forgotten generations and is not zero, and one for each
    /// domain asked for. None of them ever takes a value again that it had before.
    pub generations: Vec<u64>,
}

impl Read {
    /// Puts it together.
    #[must_use]
    pub fn new(value: Option<(Vec<u8>, Duration)>, generations: Vec<u64>) -> Self {
        Self { value, generations }
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
    /// The domains whose values are wrong.
    pub domains: Vec<u32>,
}

impl Invalidation {
    /// Puts it together.
    #[must_use]
    pub fn new(origin: u64, domains: Vec<u32>) -> Self {
        Self { origin, domains }
    }

    /// Writes it for a channel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = vec![1];
        message.extend_from_slice(&self.origin.to_le_bytes());
        self.domains.iter().for_each(|domain| message.extend_from_slice(&domain.to_le_bytes()));
        message
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` where it did not.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (origin, domains) = message.strip_prefix(&[1])?.split_first_chunk()?;
        let (domains, []) = domains.as_chunks() else { return None };
        Some(Self::new(u64::from_le_bytes(*origin), domains.iter().map(|domain| u32::from_le_bytes(*domain)).collect()))
    }
}

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
    fn get<'a>(&'a self, key: &'a [u8], domains: &'a [u32]) -> LevelFuture<'a, Read> {
        (**self).get(key, domains)
    }

    fn put<'a>(&'a self, values: &'a [Put]) -> LevelFuture<'a, ()> {
        (**self).put(values)
    }

    fn advance<'a>(&'a self, origin: u64, domains: &'a [u32]) -> LevelFuture<'a, ()> {
        (**self).advance(origin, domains)
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
