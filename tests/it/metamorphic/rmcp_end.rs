//! The other end of a stack: the world as a server of rmcp, and clients of its own kind.

mod client;
mod front;
mod server;

pub(super) use self::client::{Connections, token};
pub(super) use self::front::{Acts, Front, front};
pub(super) use self::server::RmcpWorld;

/// Who calls: in the extensions of each request, where a middleware of HTTP would leave the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) usize);
