use std::error::Error;
use std::fmt;

use crate::ConfigError;

/// The failure of an [`EventLog`](super::EventLog). Its text has no id of an event, a stream or a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventLogError {
    /// A setting cannot work, or the table does not exist.
    Config(ConfigError),
    /// No event with this id is kept.
    UnknownEvent,
    /// The lease of this process had ended, so a client was told that the outcome of the call is unknown. A later event, also the
    /// answer, would contradict that.
    Abandoned,
    /// The record of an event is not one of this store.
    Unreadable,
    /// The backend failed or was too slow. An event may have been kept.
    Backend(Box<dyn Error + Send + Sync>),
}

impl EventLogError {
    pub(super) fn backend(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Backend(error.into())
    }
}

impl From<ConfigError> for EventLogError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::UnknownEvent => f.write_str(
                "the stream cannot be resumed: no event with this id is kept. It has expired or was dropped, or the id is not one of \
                 this store",
            ),
            Self::Abandoned => f.write_str(
                "the event is not kept: the lease of this process had ended, and the client was told that the outcome of its call is \
                 unknown",
            ),
            Self::Unreadable => f.write_str("the record of an event cannot be read: check that nothing else writes there"),
            Self::Backend(error) => write!(f, "the event store fails: {error}"),
        }
    }
}

impl Error for EventLogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Backend(error) => Some(error.as_ref()),
            Self::UnknownEvent | Self::Abandoned | Self::Unreadable => None,
        }
    }
}
