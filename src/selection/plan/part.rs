//! A listing that is only a part of the tools: a page.

use turbomcp_core::RequestContext;

/// The entry of the metadata of its context.
const PART: &str = "mcp-patterns/part_of_tools";

pub(super) fn is_part(ctx: &RequestContext) -> bool {
    ctx.metadata.contains_key(PART)
}

#[cfg(feature = "rmcp")]
pub(crate) fn mark_part(ctx: &mut RequestContext) {
    ctx.metadata.insert(PART.to_owned(), true.into());
}
