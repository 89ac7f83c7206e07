//! Servers of the official Rust SDK, `rmcp`, under the same layers.

mod call;
mod client;
mod connections;
mod convert;
mod end;
mod failed;
mod forwarding_peer;
mod listing;
mod server;
mod stack;

#[cfg(test)]
mod tests;

pub use turbomcp_core::{McpError, Principal, RequestContext};

pub use self::failed::Failed;
pub use self::server::RmcpServer;
pub use self::stack::RmcpStack;
