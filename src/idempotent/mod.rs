//! T
mod claims;
mod definite;
mod handle;
mod layer;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "transactional")]
mod sql;
mod store;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisStore;
pub use handle::{Handle, Resolution, ResolveError};
pub use layer::IdempotentTool;
pub use memory::MemoryStore;
#[cfg(feature = "transactional")]
#[cfg_attr(docsrs, doc(cfg(feature = "transactional")))]
pub use sql::SqlStore;
pub use store::{Claim, Claimed, Owner, Resolved, Store, StoreError, StoreFuture};

#[cfg(test)]
mod tests;
