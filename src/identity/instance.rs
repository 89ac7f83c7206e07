//! What a server of the official SDK notes in the context of a request, for everything that distinguishes callers.
//!
//! It is an entry of the metadata, which is cloned with the context. A client of a turbomcp server could set it: then it shares less.

use serde_json::Value;
use turbomcp_core::RequestContext;

/// The instance of the server, where each session has its own.
const INSTANCE: &str = "mcp-patterns/instance";

/// Returns the instance of the server that answers, where there are several: their answers differ.
pub(super) fn instance(ctx: &RequestContext) -> Option<&Value> {
    ctx.metadata.get(INSTANCE)
}

#[cfg(feature = "rmcp")]
pub(crate) fn mark_instance(ctx: &mut RequestContext, instance: u64) {
    ctx.metadata.insert(INSTANCE.to_owned(), instance.into());
}
