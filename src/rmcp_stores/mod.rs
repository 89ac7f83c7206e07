//! Stores for the HTTP transport of rmcp.

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod events;
#[cfg(feature = "session")]
mod sessions;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use events::{EVENT_SCHEMA, EventDatabase, SqlEventStore, SqlEvents};
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub use events::{EventLog, EventLogError};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use events::{RedisEventStore, RedisEvents};
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use sessions::{SessionStates, SessionStatesError};

#[cfg(test)]
#[cfg(all(feature = "redis", feature = "postgres", feature = "session", feature = "sqlite"))]
mod tests;
