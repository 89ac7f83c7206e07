//! Facts about a request that a server of the official SDK notes in its context, for everything that distinguishes callers.
//!
//! They are entries of the metadata, which is cloned with the context. A client of a turbomcp server could set them: then it shares less.

use serde_json::Value;
use turbomcp_core::RequestContext;

/// The request has credentials, and the server does not say whose they are.
const UNREAD: &str = "mcp-patterns/unread_credentials";

/// The instance of the server, where each session has its own.
const INSTANCE: &str = "mcp-patterns/instance";

/// Says whether the caller is unknown although the request has credentials. Then it must not share anything with another one.
pub(super) fn has_unread_credentials(ctx: &RequestContext) -> bool {
    ctx.metadata.contains_key(UNREAD)
}

/// Why a call is refused that needs to know its caller, for a message.
pub(crate) const UNREAD_CREDENTIALS: &str =
    "the request has credentials, but the server does not say whose they are: set `RmcpServer::with_principal`";

/// Returns the instance of the server that answers, where there are several: their answers differ.
pub(super) fn instance(ctx: &RequestContext) -> Option<&Value> {
    ctx.metadata.get(INSTANCE)
}

#[cfg(feature = "rmcp")]
pub(crate) fn mark_unread_credentials(ctx: &mut RequestContext) {
    ctx.metadata.insert(UNREAD.to_owned(), Value::Bool(true));
}

#[cfg(feature = "rmcp")]
pub(crate) fn mark_instance(ctx: &mut RequestContext, instance: u64) {
    ctx.metadata.insert(INSTANCE.to_owned(), instance.into());
}
