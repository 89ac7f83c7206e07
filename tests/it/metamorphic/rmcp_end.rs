//! The other end of a stack: the world as a server of rmcp, and clients of its own kind.

mod client;
mod front;
mod server;

pub(super) use self::client::{Connections, token};
pub(super) use self::front::{Acts, Front, front};
pub(super) use self::server::RmcpWorld;

use rmcp::ErrorData;
use turbomcp_core::{ErrorKind, McpError, meta_keys};

/// Who calls: in the extensions of each request, where a middleware of HTTP would leave the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) usize);

/// Reads an error as a client of turbomcp does, to judge both in the same way.
pub(super) fn error_of(error: ErrorData) -> McpError {
    let data = error.data.unwrap_or_default();
    let stated = data.get(meta_keys::ERROR_KIND).cloned().and_then(|kind| serde_json::from_value(kind).ok());
    let kind = stated.unwrap_or_else(|| match error.code.0 {
        -32602 if error.message.starts_with("Tool not found") => ErrorKind::ToolNotFound,
        -32012 => ErrorKind::Timeout,
        -32013 => ErrorKind::Unavailable,
        -32014 => ErrorKind::Transport,
        -32016 => ErrorKind::ExternalService,
        -32017 => ErrorKind::Cancelled,
        code => ErrorKind::from_i32(code),
    });
    McpError::new(kind, error.message).with_data(data)
}
