//! Sessions.

mod backend;
mod data;
mod engine;
mod error;
mod key;
mod layer;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[expect(clippy::module_inception, reason = "a session is what the module is about")]
mod session;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod store;
mod turns;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisBackend;
pub use backend::{Backend, BackendError, BackendFuture, Record, Write, Written};
pub use data::Data;
pub use error::SessionError;
pub use key::SessionMode;
pub use memory::MemoryBackend;
pub(crate) use session::current_id;
pub use session::{Draft, Session};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use sql::{SESSION_SCHEMA, SessionDatabase, SqlBackend};
pub use store::SessionStore;

/// Entry of an error's data: what a session had to do with it.
pub const SESSION: &str = "mcp-patterns/session";

#[cfg(test)]
mod tests;
